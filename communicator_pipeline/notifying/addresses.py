"""Which notification addresses are taken, and what of one may be shown.

Belongs here: the services, private addresses, the words of a refusal. Does not belong here: sending
(`sending.py`), keeping addresses (`storage/notifications.py`).

An address is a URL of the library Apprise (https://github.com/caronc/apprise/wiki): its scheme
names the service, and nearly everything else in it is a secret.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from communicator_pipeline.storage.accounts import users
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.settings import Settings

LONGEST_ADDRESS = 2_000  # characters

PRIVATE_VARIABLE = "COMMUNICATOR_PRIVATE_TARGETS"
PRIVATE_SETTING = "private_targets"

WITH_HOST = frozenset(
    "apprise apprises form forms gotify gotifys hassio hassios json jsons mailto mailtos mmost "
    "mmosts nctalk nctalks rocket rockets synology synologys xml xmls".split()
)
"""Services that the user runs or chooses: what stands where a host does is one, and no secret."""

SERVICES = WITH_HOST | frozenset(
    "bark barks brevo dingtalk discord feishu gchat ifttt join lark line mailgun mastodon "
    "mastodons matrix matrixs msgbird ntfy ntfys opsgenie pagerduty pbul pover pushdeer pushdeers "
    "resend sendgrid signal signals simplepush slack tgram threema twilio vonage webex workflow "
    "workflows wxteams zulip".split()
)
"""The schemes that are taken. Apprise knows others too: those that run something on this machine,
write to its screen or its log, or read its files (`dbus`, `gnome`, `kde`, `macosx`, `windows`,
`syslog`, `fcm`, `vapid`, …) are not for people who reach it through a browser."""

_READS_FILES = frozenset(
    "template templates pgp pgpkey pgppub pgpprv pgpkeyfile wkd keyfile subfile file attach "
    "attachments avatar_file path dir config include redirect retry wait cto rto verify".split()
)
"""Parameters that name files of this machine, or change how requests are made."""


class NotAnAddress(ValueError):
    """The address is not taken; the message says why, and holds nothing of it."""


def private_allowed(database: Database) -> bool:
    """Whether notifications may go to this machine and its private networks. Whoever may have them
    sent there can make requests where only this machine can; so, unless the installation says
    otherwise, only where there is nobody but its one user."""
    said = os.environ.get(PRIVATE_VARIABLE, "").strip().casefold()
    if said:
        return said in ("1", "yes", "true", "on")
    kept = Settings(database, None).get(PRIVATE_SETTING)
    return len(users(database)) == 1 if kept is None else bool(kept)


def is_private(address: str) -> bool:
    """Whether an IP address is of this machine, of a private network, or no one's at all."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # What is written in another notation reaches the same machine.
        found = found.ipv4_mapped or found.sixtofour or found
        if found in _TRANSLATED:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return not found.is_global or found.is_multicast


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


def shown(url: str, private: bool) -> str:
    """What may be shown of an address: the service, and its host where that is no secret.

    Raises `NotAnAddress`. `private`: whether private addresses may be reached. A name is judged
    when a message is sent, for whom it names may change.
    """
    target = opened(url)
    scheme = urlsplit(url).scheme.casefold()
    host = str(target.host or "").strip("[]") if scheme in WITH_HOST else ""
    if not private and _is_here(host):
        raise NotAnAddress(
            f"{host} is an address of this machine or of a private network, where this "
            f"installation sends nothing: its administrator can allow it ({PRIVATE_VARIABLE}=yes)"
        )
    name = str(target.service_name)
    return f"{scheme}: {name}" + (f", {host}" if host else "")


def opened(url: str) -> Any:
    """The address as Apprise's plugin; raises `NotAnAddress`. Nothing is sent, read or written."""
    _check(url)
    from apprise import Apprise, AppriseAsset, PersistentStoreMode

    asset = AppriseAsset(
        storage_mode=PersistentStoreMode.MEMORY,
        allow_templates=False,
        app_id="Communicator",
        app_desc="Communicator",
        app_url="",
        http_redirects=False,
        async_mode=False,
    )
    try:
        with _unheard(logging.getLogger("apprise")):
            made = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception:
        made = None
    if made is None:
        scheme = urlsplit(url).scheme.casefold()
        raise NotAnAddress(
            f"this is no complete {scheme}:// address: https://github.com/caronc/apprise/wiki "
            "says how each service spells its own"
        )
    return made


@contextmanager
def _unheard(logger: logging.Logger) -> Iterator[None]:
    """Nothing that it says is logged: it quotes the addresses that it refuses. Not by `disabled`,
    which any other library that configures logging takes back."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


def _check(url: str) -> None:
    if len(url) > LONGEST_ADDRESS:
        raise NotAnAddress(f"an address has {LONGEST_ADDRESS} characters at most")
    if not url.isprintable() or any(sign.isspace() for sign in url):
        raise NotAnAddress("an address is one line without spaces")
    try:
        scheme = urlsplit(url).scheme.casefold()
    except ValueError:
        raise NotAnAddress("this is no URL") from None
    # Apprise finds parameters where other readers of URLs see none: behind a `#`, for one.
    names = [unquote_plus(name) for name in re.findall(r"[?&#;]([^=&?#;]*)", url)]
    if scheme not in SERVICES:
        raise NotAnAddress(
            "an address begins with the scheme of one of these services: "
            f"{', '.join(sorted(SERVICES))}"
        )
    refused = sorted(_READS_FILES & {name.strip("+-: ").casefold() for name in names})
    if refused:
        raise NotAnAddress(f"the parameters {', '.join(refused)} are not taken here")


def _is_here(host: str) -> bool:
    if host.casefold().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        return is_private(host)
    except ValueError:
        return False  # a name
