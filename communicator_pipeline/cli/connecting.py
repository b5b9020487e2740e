"""`communicator accounts add`, `login`, `test`, `chats` and what else a live account needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    err,
    errors_in_words,
    escaped,
    fail,
    for_user,
    interactive,
    out,
    owning_user,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.connecting import (
    FIRST_LOOK_BACK,
    Connected,
    add_account,
    change_setting,
    identity_of,
    login_again,
    remove_account,
)
from communicator_pipeline.ingestion.owner import touch_everything
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import (
    Connection,
    Field,
    Identity,
    Live,
    NotSupported,
    Push,
)
from communicator_pipeline.storage.accounts import Accounts, channels
from communicator_pipeline.storage.connections import Connections, Rule
from communicator_pipeline.storage.sealed import drop_old_keys, seal_anew

Key = Annotated[str, typer.Argument(help="The account's key.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field that is no secret."),
]
Values = Annotated[
    str | None,
    typer.Option("--values", metavar="FILE", help="JSON with the fields' values; - is stdin."),
]


def add(
    platform: Annotated[
        str, typer.Argument(help="slack, telegram, x, matrix, generic or sandbox.")
    ],
    account: Annotated[
        str | None, typer.Option(help="The account's key, such as ana-slack-acme.")
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=0, help="How many days back it begins.")
    ] = FIRST_LOOK_BACK.days,
    settings: Settings = None,
    values: Values = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Connect an account to its platform. Asks for what it needs; secrets are kept encrypted."""
    with errors_in_words():
        live = live_side(platform)
        given = _given(settings, values, live)
        opened = stores()
        whose = owning_user(opened, user)
        connected = add_account(
            opened, whose, account, platform, _asked(live, given), _ask, timedelta(days=days)
        )
    _say_connected(connected, platform, for_user(opened, whose), as_json)


def login(
    account: Key,
    settings: Settings = None,
    values: Values = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Log an account in again, or connect one that was imported. What it has read stays."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Accounts(opened.database, whose).get(account)
        live = live_side(found.platform)
        connections = Connections(opened)
        kept = connections.settings(account) if connections.exists(account) else {}
        known = {f.name: kept[f.name] for f in live.fields if f.name in kept}
        given = {**known, **_given(settings, values, live)}
        connected = login_again(opened, whose, account, _asked(live, given), _ask)
    _say_connected(connected, found.platform, for_user(opened, whose), as_json)


def try_login(account: Key, user: AsUser = None, as_json: AsJson = False) -> None:
    """Ask the platform who this is, and say what the login can and cannot do."""
    with errors_in_words():
        opened = stores()
        found = Accounts(opened.database, acting_user(opened, user)).get(account)
        identity = identity_of(opened, found)
        health = Connections(opened).health(account)
    if as_json:
        print_json(
            {
                "account": account,
                "person_ids": identity.person_ids,
                "name": identity.name,
                "place": identity.place,
                "can": identity.can,
                "cannot": identity.cannot,
                "notices": health.notices,
                "trouble": health.trouble,
                "waits_until": health.waits_until,
                "cost_usd_this_month": health.cost_usd,
            }
        )
        return
    out.print(f"{account} is {identity.name} on {identity.place}.", markup=False)
    print_abilities(identity)
    if health.waits_until:
        out.print(f"It waits until {health.waits_until[:19]} UTC: {health.why_waits}", markup=False)
    if health.trouble:
        out.print(f"Its last pull: {health.trouble}", markup=False, style="yellow")
    for notice in health.notices:
        out.print(f"Its last pull: {notice}", markup=False, soft_wrap=True)
    if health.cost_usd:
        out.print(f"It has cost ${health.cost_usd:.2f} this month.")


def print_abilities(identity: Identity) -> None:
    for sentence in identity.can:
        out.print(f"  [green]can[/green]    {escaped([sentence])[0]}", soft_wrap=True)
    for sentence in identity.cannot:
        out.print(f"  [yellow]cannot[/yellow] {escaped([sentence])[0]}", soft_wrap=True)


def pause(account: Key, user: AsUser = None) -> None:
    """Leave the platform alone for now; pushes are still taken."""
    with errors_in_words():
        opened = stores()
        Accounts(opened.database, acting_user(opened, user)).get(account)
        Connections(opened).pause(account)
    out.print(f"{account} is paused: communicator accounts resume {account}")


def resume(account: Key, user: AsUser = None) -> None:
    """Pull a paused account again, from where it was."""
    with errors_in_words():
        opened = stores()
        Accounts(opened.database, acting_user(opened, user)).get(account)
        Connections(opened).pause(account, False)
    out.print(f"{account} is pulled again.")


def set_setting(
    account: Key,
    name: Annotated[str, typer.Argument(help="The field, or every_seconds.")],
    value: Annotated[str, typer.Argument()],
    user: AsUser = None,
) -> None:
    """Change a setting of a connected account, or how often it is pulled (every_seconds)."""
    with errors_in_words():
        opened = stores()
        found = Accounts(opened.database, acting_user(opened, user)).get(account)
        if name == "every_seconds":
            if not value.isdigit() or int(value) < 1:
                fail("every_seconds should be a whole number of seconds, 1 or more", 2)
            Connections(opened).set_cadence(account, timedelta(seconds=int(value)))
        else:
            change_setting(opened, found, name, value)
    out.print(f"{name} is set.")


def remove(
    account: Key,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    user: AsUser = None,
) -> None:
    """Delete an account and everything that it has received. Exports stay where they are."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        Accounts(opened.database, whose).get(account)
        if not yes:
            if not interactive():
                fail("nobody is here to be asked: add --yes to delete everything", 2)
            typed = typer.prompt(f"All messages of {account} will be deleted. Type its key")
            if typed.strip() != account:
                fail("nothing was deleted")
        gone = remove_account(opened, whose, account)
        _forget_partition(account)
    out.print(f"{account} is gone, with {gone} files.")


def _forget_partition(account: str) -> None:
    from communicator_pipeline import runs

    with runs.open_instance() as instance:
        instance.delete_dynamic_partition("accounts", account)


def chats(
    account: Key,
    include: Annotated[list[str] | None, typer.Option(help="Read this chat.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Do not read it.")] = None,
    mute: Annotated[
        list[str] | None, typer.Option(help="Read it, and never ask for a reply.")
    ] = None,
    reset: Annotated[list[str] | None, typer.Option(help="Take its rule back.")] = None,
    only_included: Annotated[
        bool | None,
        typer.Option("--only-included/--all", help="Read nothing but what is included."),
    ] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Which chats of an account are read: list them, or set rules by id or name."""
    with errors_in_words():
        opened = stores()
        Accounts(opened.database, acting_user(opened, user)).get(account)
        connections = Connections(opened)
        known = channels(opened.database, account)
        rules: dict[str, Rule | None] = {}
        wanted: Sequence[tuple[list[str] | None, Rule | None]] = (
            (include, "include"),
            (exclude, "exclude"),
            (mute, "mute"),
            (reset, None),
        )
        for names, rule in wanted:
            rules |= {_channel_id(known, name): rule for name in names or ()}
        before = connections.rules(account)
        connections.set_rules(account, rules)
        muting = {c for c, rule in rules.items() if "mute" in (rule, before.get(c))}
        if muting:
            touch_everything(opened, account, "a chat was muted, or is not any more")
        if only_included is not None:
            connections.read_only_included(account, only_included)
        now = connections.rules(account)
        rows: list[dict[str, Any]] = [
            {"id": c.channel_id, "name": c.name, "kind": c.kind, "rule": now.get(c.channel_id)}
            for c in known
        ]
        listed = {row["id"] for row in rows}
        rows += [
            {"id": i, "name": i, "kind": "", "rule": r} for i, r in now.items() if i not in listed
        ]
    if as_json:
        print_json(rows)
        return
    table = plain_table("chat", "kind", "rule", "id")
    for row in rows:
        table.add_row(*escaped([row["name"], row["kind"], row["rule"] or "", row["id"]]))
    out.print(table)


def _channel_id(known: Sequence[Any], name: str) -> str:
    """The chat that an id or a name means; an id that is not known yet is taken as it is."""
    wanted = name.strip().lstrip("#").casefold()
    found = [c for c in known if c.channel_id == name] or [
        c for c in known if c.name.lstrip("#").casefold() == wanted
    ]
    if len(found) > 1:
        listed = ", ".join(c.channel_id for c in found)
        raise ValueError(f"{name!r} is the name of several chats: give an id ({listed})")
    return str(found[0].channel_id) if found else name.strip()


def rotate_keys(
    new_key: Annotated[
        bool, typer.Option("--new-key/--no-new-key", help="Make a new key first.")
    ] = True,
) -> None:
    """Encrypt all credentials with a new key, and forget the old ones."""
    with errors_in_words():
        opened = stores()
        if new_key:
            opened.keys.add_key()
        count = seal_anew(opened)
        gone = drop_old_keys(opened)
    out.print(f"{count} credentials are encrypted anew; {gone} old keys are gone.")


def _given(settings: list[str] | None, values: str | None, live: Live) -> dict[str, str]:
    """What was given on the command line or in a file; secrets only in the file, for every
    process of the machine can read a command line."""
    given: dict[str, str] = {}
    if values is not None:
        text = sys.stdin.buffer.read() if values == "-" else Path(values).read_bytes()
        try:
            held = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"the values should be a JSON object: {error}") from None
        if not isinstance(held, dict) or not all(isinstance(v, str) for v in held.values()):
            raise ValueError("the values should be a JSON object of texts")
        given |= held
    secret = {field.name for field in live.fields if field.secret}
    for pair in settings or ():
        name, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"--set takes FIELD=VALUE, this is {pair!r}")
        if name in secret:
            raise ValueError(f"{name} is a secret: leave it out and be asked, or use --values")
        given[name] = value
    return given


def _asked(live: Live, given: dict[str, str]) -> dict[str, str]:
    """What is given, and whatever else the platform needs from whoever is at the terminal."""
    asked = dict(given)
    for field in live.fields:
        if field.name not in asked and interactive():
            asked[field.name] = _ask(field)
    return asked


def _ask(field: Field) -> str:
    """Ask the person at the terminal; says the words and takes the default where nobody is."""
    if not interactive():
        if field.default is None:
            raise ValueError(
                f"{field.name} is needed and nobody is here to be asked: {field.words}"
            )
        err.print(field.words, markup=False, soft_wrap=True)
        return field.default
    answer: str = typer.prompt(
        field.words,
        default=field.default,
        hide_input=field.secret,
        show_default=bool(field.default) and not field.secret,
    )
    return answer


def _is_pushed_to(platform: str, account: str) -> bool:
    connection = Connection(account, frozenset(), {}, {})
    try:
        live_side(platform).receive(Push("POST", {}, {}, b""), connection, datetime.now(UTC))
    except NotSupported:
        return False
    except Exception:  # an empty push is none, and refused in whatever way
        return True
    return True


def _say_connected(connected: Connected, platform: str, suffix: str, as_json: bool) -> None:
    key = connected.account.account
    if as_json:
        print_json({"account": key, "platform": platform, "me": sorted(connected.account.me)})
        return
    name, place = connected.identity.name, connected.identity.place
    out.print(f"{key} is connected: {name} on {place}.", markup=False)
    print_abilities(connected.identity)
    if _is_pushed_to(platform, key):
        out.print(f"Push address, if you set one up: /push/{platform}/{key}", style="dim")
    out.print(
        f"It is read by `communicator worker` (part of `make dev`), or now: communicator "
        f"materialize --account {key}{suffix}",
        soft_wrap=True,
    )
