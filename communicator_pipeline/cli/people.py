"""`communicator users`, `members`, `keys`, `done`, `snooze`, `reopen`, `assign` and `audit`.

Belongs here: who may come in, who works on an account, and what people did. Does not belong here:
what is kept of them (`storage/sign_in.py`, `storage/accounts.py`, `storage/triage.py`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from communicator_pipeline.cli.delivering import Conversation, OfAccount
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    errors_in_words,
    escaped,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.connecting import slug
from communicator_pipeline.storage import Stores, sign_in
from communicator_pipeline.storage import accounts as kept
from communicator_pipeline.storage import audit as log
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.triage import Triage

users = typer.Typer(help="Who may sign in to the inbox in the browser.", no_args_is_help=True)
members = typer.Typer(help="Who works on an account of yours.", no_args_is_help=True)
keys = typer.Typer(help="API keys, for programs.", no_args_is_help=True)

BaseUrl = Annotated[
    str,
    typer.Option("--base-url", envvar="COMMUNICATOR_URL", help="Where the gateway is reached."),
]
HERE = "http://127.0.0.1:8700"

ByName = Annotated[str, typer.Argument(metavar="NAME", help="As `communicator users list` says.")]
TheAccount = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's key.")]
TheMember = Annotated[str, typer.Argument(metavar="USER", help="The other user's name.")]


# --- users -----------------------------------------------------------------------------------


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Everybody, whether they have set a password, and their accounts."""
    with errors_in_words():
        database = stores().database
        rows: list[dict[str, Any]] = [
            {
                "user_id": user.user_id,
                "name": user.name,
                "is_admin": user.is_admin,
                "has_password": sign_in.has_password(database, user.user_id),
                "accounts": [a.account for a in Accounts(database, user.user_id).all()],
            }
            for user in kept.users(database)
        ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("Nobody yet: communicator users add NAME")
        return
    table = plain_table("user", "name", "", "password", "accounts")
    for row in rows:
        table.add_row(
            *escaped([row["user_id"], row["name"], "administrator" if row["is_admin"] else ""]),
            "set" if row["has_password"] else "none",
            *escaped([", ".join(row["accounts"])]),
        )
    out.print(table)


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What they are called.")],
    admin: Annotated[
        bool, typer.Option("--admin", help="They administer too; also of a user that there is.")
    ] = False,
    base_url: BaseUrl = HERE,
    as_json: AsJson = False,
) -> None:
    """Add a user, and print the link with which they set their password."""
    with errors_in_words():
        database, base = stores().database, _base(base_url)
        user_id = slug(name)
        exists = user_id in [user.user_id for user in kept.users(database)]
        if exists and not admin:
            raise ValueError(
                f"there is a user {user_id!r} already: for a new link `communicator users link "
                f"{user_id}`, for somebody else another name"
            )
        if not exists:
            kept.add_user(database, user_id, name)
            _note_operator(database, "added a user", user_id)
        if admin:
            kept.make_admin(database, user_id)
            _note_operator(database, "made an administrator", user_id)
        if not exists:
            _give_link(database, user_id, base, as_json)
            return
    if as_json:
        print_json({"user_id": user_id, "is_admin": True})
        return
    out.print(f"{user_id} administers the installation too.", markup=False)


@users.command("link")
def link_user(name: ByName, base_url: BaseUrl = HERE, as_json: AsJson = False) -> None:
    """Print a new link with which a user sets their password; earlier ones are void."""
    with errors_in_words():
        database, base = stores().database, _base(base_url)
        _give_link(database, kept.get_user(database, name).user_id, base, as_json)


@users.command("email")
def name_email(
    name: ByName,
    address: Annotated[
        str | None, typer.Argument(help="Without it, the one that is kept is forgotten.")
    ] = None,
) -> None:
    """Say by which e-mail address Cloudflare Access names a user."""
    with errors_in_words():
        database = stores().database
        kept.set_email(database, kept.get_user(database, name).user_id, address)
        _note_operator(database, "named an address", name)
    out.print(f"{name} is {address}." if address else f"{name} has no address.", markup=False)


@users.command("remove")
def remove_user(name: ByName, user: AsUser = None, as_json: AsJson = False) -> None:
    """Remove a user: their password, sessions and keys end at once. For an administrator."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        kept.remove_user(opened.database, whose, name)
        _note(opened, whose, "removed a user", target=name)
    if as_json:
        print_json({"user_id": name, "removed": True})
        return
    out.print(f"{name} is removed.", markup=False)


def _give_link(database: Database, user_id: str, base: str, as_json: bool) -> None:
    now = datetime.now(UTC)
    link = f"{base}/welcome/{sign_in.make_link(database, user_id, now)}"
    _note_operator(database, "made a link", user_id)
    ends = now + sign_in.LINK_LASTS
    if as_json:
        print_json({"user_id": user_id, "link": link, "expires_at": ends.isoformat()})
        return
    out.print(
        f"With this link {user_id} sets a password. It works once, until {ends:%Y-%m-%d %H:%M} "
        "UTC, and is not shown again:",
        markup=False,
        soft_wrap=True,
    )
    out.print(link, markup=False, soft_wrap=True)


def _base(url: str) -> str:
    """The address without a slash at its end; raises `ValueError` where nobody could sign in."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address of a gateway: give one such as {HERE}")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise ValueError(
            f"passwords are taken over HTTPS only, or on this machine itself: with {url} nobody "
            "could sign in (docs/serving.md)"
        )
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- members ---------------------------------------------------------------------------------


@members.command("list")
def list_members(account: TheAccount, user: AsUser = None, as_json: AsJson = False) -> None:
    """Who works on an account, and as what."""
    with errors_in_words():
        opened = stores()
        found = Accounts(opened.database, acting_user(opened, user)).members(account)
    if as_json:
        print_json([asdict(member) for member in found])
        return
    table = plain_table("user", "name", "role")
    for member in found:
        table.add_row(*escaped([member.user_id, member.name, member.role]))
    out.print(table)


@members.command("set")
def set_member(
    account: TheAccount,
    member: TheMember,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="'owner', 'reviewer' (approves), 'viewer'.")
    ],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Let a user work on an account, or change as what. For its owners."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        Accounts(opened.database, whose).set_member(account, member, role)
        _note(opened, whose, "set a member", account, member, role)
    if as_json:
        print_json({"account": account, "user_id": member, "role": role})
        return
    out.print(f"{member} is {role} of {account}.", markup=False)


@members.command("remove")
def remove_member(
    account: TheAccount, member: TheMember, user: AsUser = None, as_json: AsJson = False
) -> None:
    """Take an account from a user; what was assigned to them is nobody's. For its owners."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        Accounts(opened.database, whose).remove_member(account, member)
        _note(opened, whose, "removed a member", account, member)
    if as_json:
        print_json({"account": account, "user_id": member, "removed": True})
        return
    out.print(f"{member} does not see {account} any more.", markup=False)


# --- keys ------------------------------------------------------------------------------------


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="To know it by.")],
    scope: Annotated[str, typer.Option(help="'read', or 'write': read and change.")] = "read",
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Make a key with which a program may do what you may. It is shown this once."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        key = sign_in.make_key(opened.database, whose, name, scope, datetime.now(UTC))
        key_id = key.split("_")[1]
        _note(opened, whose, "made a key", target=key_id, detail=scope)
    if as_json:
        print_json({"key_id": key_id, "name": name.strip(), "scope": scope, "key": key})
        return
    out.print("Keep it well, it is not shown again. Send it as `Authorization: Bearer KEY`:")
    out.print(key, markup=False, soft_wrap=True)


@keys.command("list")
def list_keys(user: AsUser = None, as_json: AsJson = False) -> None:
    """Your keys, the newest first, without their secrets."""
    with errors_in_words():
        opened = stores()
        rows = sign_in.keys_of(opened.database, acting_user(opened, user))
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("No keys: communicator keys add NAME")
        return
    table = plain_table("id", "name", "scope", "made", "used", "")
    for row in rows:
        used = f"{ago(row['used_at'])} ago" if row["used_at"] else "never"
        state = "revoked" if row["revoked_at"] else ""
        made = f"{ago(row['created_at'])} ago"
        table.add_row(*escaped([row["key_id"], row["name"], row["scope"], made, used, state]))
    out.print(table)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `communicator keys list` says.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key of yours, from the next request on."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        sign_in.revoke_key(opened.database, whose, key_id, datetime.now(UTC))
        _note(opened, whose, "revoked a key", target=key_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": True})
        return
    out.print(f"{key_id} is revoked.", markup=False)


# --- conversations ---------------------------------------------------------------------------


def done(
    conversation: Conversation,
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Nothing is left to do in a conversation, until somebody writes again."""
    with errors_in_words():
        opened = stores()
        whose, row = _conversation(opened, conversation, account, user)
        key, found = row["account"], row["conversation_id"]
        seen = row["last_message_at"]
        Triage(opened.database, whose).done(key, found, seen, datetime.now(UTC))
        _note(opened, whose, "done", key, found)
    _say_changed(as_json, key, found, {"state": "done"}, "Done, until somebody writes again.")


def snooze(
    conversation: Conversation,
    until: Annotated[datetime, typer.Option(help="Until this time (UTC), 2026-11-03T09:00.")],
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Put a conversation out of sight until a time, or until somebody writes again."""
    with errors_in_words():
        opened = stores()
        whose, row = _conversation(opened, conversation, account, user)
        key, found = row["account"], row["conversation_id"]
        seen, ends = row["last_message_at"], until.replace(tzinfo=UTC)
        Triage(opened.database, whose).snooze(key, found, ends, seen, datetime.now(UTC))
        _note(opened, whose, "snoozed", key, found, ends.isoformat())
    told = f"It comes back on {ends:%Y-%m-%d %H:%M} UTC, or when somebody writes again."
    _say_changed(as_json, key, found, {"state": "snoozed", "until": ends.isoformat()}, told)


def reopen(
    conversation: Conversation,
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Take `done` or `snooze` back."""
    with errors_in_words():
        opened = stores()
        whose, row = _conversation(opened, conversation, account, user)
        key, found = row["account"], row["conversation_id"]
        Triage(opened.database, whose).reopen(key, found, datetime.now(UTC))
        _note(opened, whose, "reopened", key, found)
    _say_changed(as_json, key, found, {"state": "open"}, "It is open again.")


def assign(
    conversation: Conversation,
    to: Annotated[
        str | None,
        typer.Argument(metavar="USER", help="A member of the account. Without it: nobody."),
    ] = None,
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Say who looks after a conversation."""
    with errors_in_words():
        opened = stores()
        whose, row = _conversation(opened, conversation, account, user)
        key, found = row["account"], row["conversation_id"]
        Triage(opened.database, whose).assign(key, found, to, datetime.now(UTC))
        _note(opened, whose, "assigned", key, found, to or "")
    told = f"{to} looks after it." if to else "Nobody looks after it any more."
    _say_changed(as_json, key, found, {"assigned_to": to}, told)


def _conversation(
    opened: Stores, conversation: str, account: str | None, user: str | None
) -> tuple[str, dict[str, Any]]:
    whose = acting_user(opened, user)
    return whose, Inbox(opened.database, whose).conversation(conversation, account)


def _say_changed(
    as_json: bool, account: str, conversation: str, now: dict[str, Any], words: str
) -> None:
    if as_json:
        print_json({"account": account, "conversation_id": conversation, **now})
        return
    out.print(words, markup=False, soft_wrap=True)


# --- the audit log ---------------------------------------------------------------------------


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    before: Annotated[
        int | None, typer.Option(help="Only what is older than the entry with this id.")
    ] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Who did what: you, and others in accounts that you own; an administrator sees all."""
    with errors_in_words():
        opened = stores()
        rows = log.audit_log(opened.database, acting_user(opened, user), before, limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("Nothing is noted yet.")
        return
    table = plain_table("id", "at (UTC)", "who", "what", "to", "account", "via")
    for row in rows:
        what = f"{row['action']}: {row['detail']}" if row["detail"] else row["action"]
        who = row["user_id"] or "(nobody)"
        cells = [row["id"], row["at"][:19].replace("T", " "), who, what, row["target"]]
        table.add_row(*escaped([*cells, row["account"] or "", row["via"]]))
    out.print(table)


def _note(
    opened: Stores,
    whose: str,
    action: str,
    account: str | None = None,
    target: str = "",
    detail: str = "",
) -> None:
    log.note(
        opened.database, whose, action, datetime.now(UTC),
        account=account, target=target, detail=detail, via="command",
    )  # fmt: skip


def _note_operator(database: Database, action: str, user_id: str) -> None:
    """Whoever has the shell: nobody has signed in."""
    log.note(database, "", action, datetime.now(UTC), target=user_id, via="command")
