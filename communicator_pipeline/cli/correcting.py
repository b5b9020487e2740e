"""`communicator merge`, `split` and `relabel`.

Belongs here: what people correct, by the command. Does not belong here: what a correction sets in
motion (`storage/corrections.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from communicator_pipeline.chain.analyses import categories_of
from communicator_pipeline.cli.delivering import Conversation, OfAccount
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    errors_in_words,
    out,
    print_json,
    stores,
)
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.corrections import KEEP, Corrections, Regrouped
from communicator_pipeline.storage.inbox import Inbox

Undo = Annotated[
    str | None,
    typer.Option("--undo", metavar="REGROUPING", help="Take back what had this id; no other word."),
]

REGROUPED = "It shows once the days have been made again: with a worker in seconds, else with "


def merge(
    conversation: Annotated[
        str | None, typer.Argument(help="The id that `communicator inbox` shows.")
    ] = None,
    other: Annotated[
        str | None, typer.Argument(help="The other one's id, of the same channel.")
    ] = None,
    undo: Undo = None,
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Two conversations are one; or take back a merge."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        if undo is not None:
            _undo(opened, whose, undo, (conversation, other), as_json)
            return
        if conversation is None or other is None:
            raise ValueError("name the two conversations, or --undo and the id of a merge")
        row = Inbox(opened.database, whose).conversation(conversation, account)
        key = row["account"]
        found = Corrections(opened.database, whose).merge(
            key, conversation, other, datetime.now(UTC)
        )
        _note(opened, whose, "merged", key, conversation, other)
    _say(as_json, found, f"They are one conversation, {found.conversation_id}.")


def split(
    conversation: Annotated[
        str | None, typer.Argument(help="The id that `communicator inbox` shows.")
    ] = None,
    message: Annotated[
        str | None,
        typer.Argument(help="The message that it begins with, as `show --json` names it."),
    ] = None,
    undo: Undo = None,
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """A conversation of its own begins with a message; or take back a split."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        if undo is not None:
            _undo(opened, whose, undo, (conversation, message), as_json)
            return
        if conversation is None or message is None:
            raise ValueError("name the conversation and a message, or --undo and the id of a split")
        row = Inbox(opened.database, whose).conversation(conversation, account)
        key = row["account"]
        found = Corrections(opened.database, whose).split(
            key, conversation, message, datetime.now(UTC)
        )
        _note(opened, whose, "split", key, conversation, message)
    _say(as_json, found, f"A conversation of its own begins with {message}.")


def relabel(
    conversation: Conversation,
    category: Annotated[
        str | None, typer.Option(help="One of your categories; '' as the analysis says.")
    ] = None,
    priority: Annotated[str | None, typer.Option(help="0 to 100; '' as the analysis says.")] = None,
    why: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    account: OfAccount = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Set a conversation's category and priority, or give them back to the analysis."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        reader = Inbox(opened.database, whose)
        key = reader.conversation(conversation, account)["account"]
        Corrections(opened.database, whose).relabel(
            key,
            conversation,
            categories_of(opened.database, key),
            datetime.now(UTC),
            category=KEEP if category is None else category or None,
            priority=KEEP if priority is None else _number(priority),
            why=why,
        )
        named = (("category", category), ("priority", priority))
        set_to = ", ".join(f"{name} {v or 'as analysed'}" for name, v in named if v is not None)
        _note(opened, whose, "relabelled", key, conversation, set_to)
        row = reader.conversation(conversation, key)
    shown: dict[str, Any] = {name: row[name] for name in ("category", "priority")}
    if as_json:
        print_json({"account": key, "conversation_id": conversation, **shown})
        return
    out.print(
        f"It is {shown['category']} with priority {shown['priority']}.",
        markup=False,
        soft_wrap=True,
    )


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"a priority is a number between 0 and 100, not {text!r}")
    return int(text)


def _undo(
    opened: Stores, whose: str, regrouping: str, named: tuple[str | None, ...], as_json: bool
) -> None:
    if any(word is not None for word in named):
        raise ValueError("--undo takes an id and nothing else: it knows which conversation it is")
    found = Corrections(opened.database, whose).undo(regrouping, datetime.now(UTC))
    _note(
        opened, whose, f"took a {found.kind} back", found.account, found.conversation_id, regrouping
    )
    _say(as_json, found, f"The {found.kind} is taken back.")


def _say(as_json: bool, found: Regrouped, words: str) -> None:
    if as_json:
        print_json(asdict(found))
        return
    out.print(f"{words} {REGROUPED}`communicator materialize`.", markup=False, soft_wrap=True)
    if found.is_new and not words.startswith("The "):
        out.print(
            f"To take it back: communicator {found.kind} --undo {found.regrouping_id}",
            markup=False,
            soft_wrap=True,
        )


def _note(opened: Stores, whose: str, action: str, account: str, target: str, detail: str) -> None:
    audit.note(
        opened.database, whose, action, datetime.now(UTC),
        account=account, target=target, detail=detail, via="command",
    )  # fmt: skip
