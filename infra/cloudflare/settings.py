"""A stack's settings, read and checked.

Belongs here: which settings there are, and what is wrong with one. Does not belong here: what is
made from them (the other modules).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pulumi

STACKS = ("dev", "staging", "prod")

EDGE_BUNDLE = Path(__file__).resolve().parent.parent / "edge" / "dist" / "index.js"

_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_HOSTNAME = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
# What needs no quotes in a file of variables, whoever reads it: Docker, a shell, systemd.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,}")


class SettingWrong(ValueError):
    """A setting of the stack is missing or wrong; the message says which, and what to do."""


@dataclass(frozen=True)
class Tunnel:
    """Gateway and Dagster on the internet, behind Access."""

    gateway_hostname: str
    dagster_hostname: str  # "": Dagster's UI is not reachable from outside
    zone_id: str
    team: str  # https://TEAM.cloudflareaccess.com
    emails: tuple[str, ...]  # who may pass


@dataclass(frozen=True)
class Settings:
    """Everything that may differ from stack to stack."""

    environment: str
    account_id: str
    databases: int
    keep_data: bool
    location: str  # Cloudflare's hint where D1 and R2 should lie, such as "weur"; "": it chooses
    jurisdiction: str  # "eu": data stay there; "default": no promise
    hostname: str  # of the edge Worker; "": workers.dev
    workers_subdomain: str
    zone_id: str  # of the hostnames
    push_limit: int  # pushes per account and minute
    token_generations: tuple[int, ...]  # the last one is in use
    ai_gateway: bool
    tunnel: Tunnel | None
    keys: pulumi.Output[str]
    d1_token: pulumi.Output[str]
    d1_token_previous: pulumi.Output[str] | None
    edge_bundle: Path

    @property
    def prefix(self) -> str:
        return f"communicator-{self.environment}"

    @property
    def edge_url(self) -> str:
        """Where the edge Worker answers."""
        host = self.hostname or f"{self.prefix}-edge.{self.workers_subdomain}.workers.dev"
        return f"https://{host}"


def read_settings(config: pulumi.Config, stack: str) -> Settings:
    """The settings of a stack. Raises `SettingWrong`."""
    if stack not in STACKS:
        raise SettingWrong(f"the stack is {stack!r}: it can be {', '.join(STACKS)}")
    account_id = _required(config, "account_id", "your account's id, on the dashboard's first page")
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise SettingWrong("account_id should be 32 hexadecimal digits, as the dashboard shows it")
    if not EDGE_BUNDLE.is_file():
        raise SettingWrong(
            "the edge Worker is not built: run `npm ci && npm run build` in infra/edge first"
        )
    hostname = _hostname(config, "hostname")
    subdomain = config.get("workers_subdomain") or ""
    if not hostname and not _LABEL.fullmatch(subdomain):
        raise SettingWrong(
            "set hostname (a name in a zone of yours), or workers_subdomain (what stands before "
            ".workers.dev on the dashboard's page Workers & Pages): the edge Worker answers there"
        )
    zone_id = config.get("zone_id") or ""
    if hostname and not _ACCOUNT_ID.fullmatch(zone_id):
        raise SettingWrong("hostname is set: set zone_id to the id of its zone (32 hex digits)")
    jurisdiction = config.get("jurisdiction") or "default"
    if jurisdiction not in ("default", "eu"):
        raise SettingWrong(f"jurisdiction is {jurisdiction!r}: it can be eu, or not set")
    location = config.get("location") or ""
    if location and jurisdiction != "default":
        raise SettingWrong("set location or jurisdiction, not both: a jurisdiction says where")
    previous = config.get_secret("d1_token_previous")
    return Settings(
        environment=stack,
        account_id=account_id,
        databases=_number(config, "databases", 1, 1, 50),
        keep_data=config.get_bool("keep_data") or False,
        location=location,
        jurisdiction=jurisdiction,
        hostname=hostname,
        workers_subdomain=subdomain,
        zone_id=zone_id,
        push_limit=_number(config, "push_limit", 1200, 1, 1_000_000),
        token_generations=_generations(config.get("token_generations") or "1"),
        ai_gateway=config.get_bool("ai_gateway") or False,
        tunnel=_tunnel(config, zone_id),
        keys=_required_secret(config, "keys", check_keys),
        d1_token=_required_secret(config, "d1_token", check_d1_token),
        d1_token_previous=previous and previous.apply(check_d1_token),
        edge_bundle=EDGE_BUNDLE,
    )


def check_keys(keys: str) -> str:
    """Fernet keys, commas between them, the newest first. Raises `SettingWrong`."""
    for key in keys.split(","):
        try:
            length = len(base64.urlsafe_b64decode(key))
        except (binascii.Error, ValueError):
            length = 0
        if length != 32 or len(key) != 44:  # the decoder skips what it does not know
            raise SettingWrong(
                "keys should be Fernet keys (44 characters each), with commas between them and no "
                "spaces, the newest first"
            )
    return keys


def check_d1_token(token: str) -> str:
    """What opens the database's door in the edge Worker. Raises `SettingWrong`."""
    if not _TOKEN.fullmatch(token):
        raise SettingWrong(
            "d1_token should be 32 random characters or more, letters and digits: "
            "openssl rand -hex 32"
        )
    return token


def _required(config: pulumi.Config, name: str, what: str) -> str:
    value = config.get(name)
    if not value:
        raise SettingWrong(f"{name} is not set ({what}): pulumi config set {name} VALUE")
    return value


def _required_secret(
    config: pulumi.Config, name: str, check: Callable[[str], str]
) -> pulumi.Output[str]:
    value = config.get_secret(name)
    if value is None:
        raise SettingWrong(f"{name} is not set: pulumi config set --secret {name}")
    return value.apply(check)


def _number(config: pulumi.Config, name: str, default: int, least: int, most: int) -> int:
    text = config.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingWrong(f"{name} is {text!r}: it should be a number from {least} to {most}")
    return int(text)


def _generations(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    numbers = tuple(int(part) for part in parts if part.isdecimal())
    if len(numbers) != len(parts) or list(numbers) != sorted(set(numbers)):
        raise SettingWrong(
            f"token_generations is {text!r}: it should be ascending numbers such as 1 or 1,2"
        )
    return numbers


def _hostname(config: pulumi.Config, name: str) -> str:
    value = config.get(name) or ""
    if value and not _HOSTNAME.fullmatch(value):
        raise SettingWrong(f"{name} is {value!r}: it should be a name such as edge.example.org")
    return value


def _tunnel(config: pulumi.Config, zone_id: str) -> Tunnel | None:
    gateway = _hostname(config, "gateway_hostname")
    dagster = _hostname(config, "dagster_hostname")
    if not gateway:
        if dagster:
            raise SettingWrong("dagster_hostname is set: set gateway_hostname too")
        return None
    emails = tuple((config.get("access_emails") or "").replace(" ", "").split(","))
    if not all(_EMAIL.fullmatch(email) for email in emails):
        raise SettingWrong(
            "gateway_hostname is set: set access_emails to the addresses of those who may pass, "
            "with commas between them; Dagster's UI has no login of its own"
        )
    if not _ACCOUNT_ID.fullmatch(zone_id):
        raise SettingWrong("gateway_hostname is set: set zone_id to the id of its zone")
    team = config.get("access_team") or ""
    if not _LABEL.fullmatch(team):
        raise SettingWrong(
            "gateway_hostname is set: set access_team to what stands before .cloudflareaccess.com "
            "in your Zero Trust settings"
        )
    return Tunnel(gateway, dagster, zone_id, f"https://{team}.cloudflareaccess.com", emails)
