"""Connecting an account to its platform: logging in, testing, taking it away again.

Belongs here: what the command line and the API both do with live accounts. Does not belong here:
asking a person (`cli/`), what a platform's login is like (`platforms/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Ask, Connection, Identity, Live
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Account, Accounts, Person, know_people
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import Statement
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN

FIRST_LOOK_BACK = timedelta(days=14)
"""How far back a new account begins: enough to see what waits, little enough to be there soon."""


SENDING = "sending"
"""A setting of every account, whatever its platform: `open` lets replies leave."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An account that has logged in."""

    account: Account
    identity: Identity


def add_account(
    stores: Stores,
    user_id: str,
    account: str | None,
    platform: str,
    values: Mapping[str, str],
    ask: Ask,
    look_back: timedelta = FIRST_LOOK_BACK,
) -> Connected:
    """Log in with the values of the platform's fields, and keep the account; without a key it
    gets one such as `ana-slack-acme`.

    Nothing is kept unless the platform says who it is. Raises `ValueError` for what is missing or
    wrong, `PlatformError` if the platform refuses.
    """
    accounts = Accounts(stores.database, user_id)
    live = live_side(platform)
    kept = live.login(_complete(live, values), ask)
    settings, secrets = _sorted_out(live, kept)
    identity = _identity(live, Connection(account or "", frozenset(), settings, secrets))
    account = account or account_key(user_id, platform, identity.place)
    found = accounts.add(account, platform, f"{identity.name} on {identity.place}")
    connections = Connections(stores)
    since = datetime.now(UTC) - look_back
    if connections.exists(account):
        since = connections.covered_since(account)
        before = connections.settings(account)
        settings |= {name: before[name] for name in (SENDING,) if name in before}
    connections.save(account, settings, secrets, live.cadence, since)
    _know_owner(stores, accounts, found, identity)
    return Connected(accounts.get(account), identity)


def account_key(user_id: str, platform: str, place: str) -> str:
    """What an account is called, unless somebody says otherwise; raises ValueError."""
    key = slug("-".join((user_id, platform, place)))[:63].strip("-")
    if not ACCOUNT_PATTERN.fullmatch(key):
        raise ValueError("give the account a key with --account, such as ana-slack-acme")
    return key


def slug(text: str) -> str:
    """The text in what a key may hold: a-z, 0-9 and '-'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def login_again(
    stores: Stores, user_id: str, account: str, values: Mapping[str, str], ask: Ask
) -> Connected:
    """Log an account in anew: what it had read stays known, and where nothing is given for a
    setting the old one holds."""
    found = Accounts(stores.database, user_id).get(account)
    connections = Connections(stores)
    if connections.exists(account):
        known = {field.name for field in live_side(found.platform).fields}
        settings = connections.settings(account)
        values = {**{k: v for k, v in settings.items() if k in known}, **values}
    return add_account(stores, user_id, account, found.platform, values, ask)


def identity_of(stores: Stores, account: Account) -> Identity:
    """What the platform says of the login now; raises `PlatformError`, `NotFound`."""
    connection = Connections(stores).load(account.account)
    return _identity(live_side(account.platform), connection)


def change_setting(stores: Stores, account: Account, name: str, value: str) -> None:
    """Change a field that is no secret; raises `ValueError` for one that is, or is unknown."""
    fields = {field.name: field for field in live_side(account.platform).fields}
    if name == SENDING:
        if value not in ("open", "closed"):
            raise ValueError(f"{SENDING} is open or closed, it is {value!r}")
    elif name not in fields or fields[name].secret or fields[name].fixed:
        known = ", ".join(k for k, field in fields.items() if not (field.secret or field.fixed))
        why = "is part of the login: log in again to change it"
        why = why if name in fields else "is not a setting"
        raise ValueError(f"{name} {why} (settings of {account.platform}: {SENDING}, {known})")
    connections = Connections(stores)
    connections.set_settings(
        account.account, {**connections.settings(account.account), name: value}
    )


def remove_account(stores: Stores, user_id: str, account: str) -> int:
    """Delete an account and everything that it received; returns how many objects went.

    The database goes first: what is left of the lake if this is killed belongs to nobody, and the
    same call takes it away. Attachments stay if another account has the same content.
    """
    accounts = Accounts(stores.database, user_id)
    accounts.get(account)
    stores.database.batch(_forget(account))
    gone = 0
    for prefix in _prefixes(stores, account):
        for info in list(stores.lake.objects.list(prefix)):
            stores.lake.objects.delete(info.key)
            gone += 1
    return gone


def _forget(account: str) -> list[Statement]:
    # `messages` is named, so that its triggers take the rows out of the search index; the others
    # without a foreign key are those that are written in great batches.
    tables = ("messages", "analyses", "day_claims")
    return [
        *((f"DELETE FROM {table} WHERE account = ?", (account,)) for table in tables),
        ("DELETE FROM settings WHERE scope = ?", (f"account:{account}",)),
        ("DELETE FROM accounts WHERE account = ?", (account,)),
    ]


def _prefixes(stores: Stores, account: str) -> list[str]:
    chain = ("raw_messages", "attachments", "conversations", "analyses", "drafted_replies")
    assets = (*chain, "deliveries")
    return [
        f"landing/{account}/",
        f"digests/{account}/",
        *(f"lake/{asset}/{account}/" for asset in assets),
    ]


def _complete(live: Live, values: Mapping[str, str]) -> dict[str, str]:
    """The values with defaults; raises `ValueError` for what is missing or unknown."""
    known = {field.name for field in live.fields}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"there is no field {', '.join(unknown)} (there are: {', '.join(sorted(known))})"
        )
    complete = {}
    for field in live.fields:
        value = values.get(field.name, "").strip() or field.default
        if value is None:
            raise ValueError(f"{field.name} is missing: {field.words}")
        complete[field.name] = value
    return complete


def _sorted_out(live: Live, kept: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Settings and secrets: what no field declares is secret, to be on the safe side."""
    open_fields = {field.name for field in live.fields if not field.secret}
    settings = {name: value for name, value in kept.items() if name in open_fields}
    return settings, {name: value for name, value in kept.items() if name not in open_fields}


def _identity(live: Live, connection: Connection) -> Identity:
    with live.connect(connection) as client:
        return client.identity()


def _know_owner(stores: Stores, accounts: Accounts, account: Account, identity: Identity) -> None:
    people = [Person(identity.person_ids[0], identity.name, datetime.now(UTC))]
    know_people(stores.database, account.account, people)
    if not set(identity.person_ids) <= account.me:
        set_owner(stores, accounts, account, {*account.me, *identity.person_ids})
