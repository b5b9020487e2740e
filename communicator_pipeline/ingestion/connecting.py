"""Connecting an account to its platform: logging in, testing, taking it away again.

Belongs here: what the command line and the API both do with live accounts. Does not belong here:
asking a person (`cli/`), what a platform's login is like (`platforms/`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.language_model.keeping import NotForgotten, answers_of
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Ask, Connection, Identity, Live
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import (
    Account,
    Accounts,
    NotFound,
    Person,
    account_keys,
    know_people,
    load_account,
    removed_accounts,
)
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import Statement, now_text, utc_text
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN, AccountMonth, attachment_key, texts
from communicator_pipeline.storage.landing import landed_months, notes_of_joining, read_landing

log = logging.getLogger("communicator.accounts")

FIRST_LOOK_BACK = timedelta(days=14)
"""How far back a new account begins: enough to see what waits, little enough to be there soon."""


ATTACHMENTS = "attachments"  # the asset that names the stored contents

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

    Nothing is kept unless the platform says who it is. An account that is somebody's stays theirs:
    another login on the same place is an account of its own. Raises `ValueError` for what is
    missing or wrong, `PlatformError` if the platform refuses.
    """
    clear_removed(stores, datetime.now(UTC))  # the key may be free by now
    accounts = Accounts(stores.database, user_id)
    live = live_side(platform)
    complete = _complete(live, values)
    _check(live, complete)
    kept = live.login(complete, ask)
    settings, secrets = _sorted_out(live, kept)
    identity = _identity(live, Connection(account or "", frozenset(), settings, secrets))
    if account is None:
        account = _free_key(stores, user_id, platform, identity)
    elif not _may_be(stores, account, identity):
        raise ValueError(
            f"{account} belongs to somebody else on {identity.place} than {identity.name}, who has "
            "logged in now: give this login a key of its own with --account"
        )
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


def _free_key(stores: Stores, user_id: str, platform: str, identity: Identity) -> str:
    """The key of the place, or if that is another login's, one that tells them apart."""
    key = account_key(user_id, platform, identity.place)
    mine = {account.account for account in Accounts(stores.database, user_id).all()}
    told_apart = [slug(identity.name), slug(identity.person_ids[0]), *map(str, range(2, 1_000))]
    for suffix in ("", *(words[:24].strip("-") for words in told_apart if words)):
        tried = f"{key[: 62 - len(suffix)].strip('-')}-{suffix}" if suffix else key
        is_free = tried not in account_keys(stores.database)
        if removed_accounts(stores.database, tried):
            continue
        if is_free or (tried in mine and _may_be(stores, tried, identity)):
            return tried
    raise ValueError("give the account a key with --account, such as ana-slack-acme")


def _may_be(stores: Stores, account: str, identity: Identity) -> bool:
    """Whether the account is this person's, or nobody's that we know of."""
    try:
        me = load_account(stores.database, account).me
    except NotFound:
        return True
    return not me or not me.isdisjoint(identity.person_ids)


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
    settings = {**connections.settings(account.account), name: value}
    _check(live_side(account.platform), settings)
    connections.set_settings(account.account, settings)


def remove_account(stores: Stores, user_id: str, account: str) -> int:
    """Delete an account and everything that it received; returns how many objects went.

    The database goes first, and notes that the account was removed: what a kill leaves, a cache
    that cannot be reached holds, or whoever was at work on it writes afterwards, is deleted by the
    same call or by `clear_removed`. Attachments stay if another account has the same content.
    """
    removed = removed_accounts(stores.database, account)
    if not (removed and removed[0]["removed_by"] == user_id):
        Accounts(stores.database, user_id).get(account)
        stores.database.batch(_forget(account, user_id))
    count = _delete_objects(stores, account)
    _delete_answers(stores, account)
    return count


CLEAN_FOR = timedelta(hours=1)
"""For how long nothing may have come any more until a removed account's key is free: longer than
whoever was at work on it takes to meet the missing account, which ends him."""


def clear_removed(stores: Stores, now: datetime) -> int:
    """Delete what has come into removed accounts since, and let go of the keys of those into which
    nothing has come for a while; returns how many objects and kept answers went."""
    gone = 0
    for row in removed_accounts(stores.database):
        account = row["account"]
        count = _delete_objects(stores, account)
        answers = _delete_answers(stores, account)
        gone += count + (answers or 0)
        if answers is None:
            continue
        if count or answers:
            stores.database.execute(
                "UPDATE removed_accounts SET found_at = ?2 WHERE account = ?1",
                (account, utc_text(now)),
            )
        elif utc_text(now - CLEAN_FOR) > row["found_at"]:
            stores.database.execute("DELETE FROM removed_accounts WHERE account = ?", (account,))
    return gone


def _forget(account: str, user_id: str) -> list[Statement]:
    # `messages` is named, so that its triggers take the rows out of the search index; the others
    # without a foreign key are those that are written in great batches.
    tables = ("messages", "analyses", "day_claims")
    now = now_text()
    return [
        *((f"DELETE FROM {table} WHERE account = ?", (account,)) for table in tables),
        ("DELETE FROM settings WHERE scope = ?", (f"account:{account}",)),
        # Limits that others share stand on, whoever met them.
        (
            "DELETE FROM platform_waits WHERE account = ?1 AND substr(scope, instr(scope, ':') + 1)"
            " = ?1",
            (account,),
        ),
        ("UPDATE platform_waits SET account = '' WHERE account = ?", (account,)),
        ("DELETE FROM accounts WHERE account = ?", (account,)),
        (
            "INSERT OR REPLACE INTO removed_accounts (account, removed_by, removed_at, found_at) "
            "VALUES (?1, ?2, ?3, ?3)",
            (account, user_id, now),
        ),
    ]


def _delete_objects(stores: Stores, account: str) -> int:
    """Contents first, for the rest names them: whoever is killed can begin again."""
    objects = stores.lake.objects
    keys = [attachment_key(sha256) for sha256 in _contents_of_nobody_else(stores, account)]
    for prefix in _prefixes(account):
        keys += [info.key for info in objects.list(prefix)]
    for asset in _COMPARED:
        compared = objects.list(f"lake/{asset}@")
        keys += [info.key for info in compared if info.key.split("/")[2] == account]
    for key in keys:
        objects.delete(key)
    return len(keys)


def _delete_answers(stores: Stores, account: str) -> int | None:
    """Delete what models answered for an account; None if that cannot be done now."""
    try:
        return answers_of(stores).forget_account(account)
    except NotForgotten as error:
        log.warning("The account is removed, but %s; housekeeping tries again", error)
        return None


def _prefixes(account: str) -> list[str]:
    chain = ("raw_messages", "attachments", "conversations", "analyses", "drafted_replies")
    assets = (*chain, "deliveries", "feedback", "reply_memory", "label_models", "usage")
    return [
        f"landing/{account}/",
        notes_of_joining(account),
        f"digests/{account}/",
        *(f"lake/{asset}/{account}/" for asset in assets),
    ]


_COMPARED = ("analyses", "drafted_replies", "answers_drafted_again", "comparison")
"""Assets that comparisons keep side partitions of, `lake/analyses@NAME/…`."""


def _contents_of_nobody_else(stores: Stores, account: str) -> set[str]:
    """The SHA-256 of the attachments that the account has, and no other one. A file that cannot
    be read says nothing: it is deleted, and what another account's may name stays."""
    mine: set[str] = set()
    for month in {*landed_months(stores.lake, account), *stores.lake.months(ATTACHMENTS, account)}:
        with suppress(pa.ArrowInvalid):
            mine |= _contents(stores, AccountMonth(account, month))
    mine = {sha256 for sha256 in mine if stores.lake.objects.exists(attachment_key(sha256))}
    for other in account_keys(stores.database):
        for month in {*landed_months(stores.lake, other), *stores.lake.months(ATTACHMENTS, other)}:
            if not mine:
                return mine
            try:
                mine -= _contents(stores, AccountMonth(other, month))
            except pa.ArrowInvalid:
                return set()
    return mine


def _contents(stores: Stores, partition: AccountMonth) -> set[str]:
    """The SHA-256 of the contents that a month's attachments and landed exports name."""
    found: set[str] = set()
    for day in stores.lake.manifest(ATTACHMENTS, partition).days.values():
        rows = stores.lake.read_day(ATTACHMENTS, partition, day)
        found |= set(texts(rows["sha256"].drop_null()))
    landed = read_landing(stores.lake, partition, None, ["files"])
    for text in texts(pc.unique(landed["files"].drop_null())):
        found |= set(orjson.loads(text).values())
    return found


class _Checks(Protocol):
    def check(self, settings: Mapping[str, str]) -> None:
        """Whether the settings can work together; raises `ValueError` in words."""


def _check(live: Live, settings: Mapping[str, str]) -> None:
    """What a platform's `check`, if it has one, says of the settings, at login and at a change."""
    if hasattr(live, "check"):
        cast(_Checks, live).check(settings)


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
