"""The inbox: views, the list, a conversation with its draft, and what one does with it.

Belongs here: which rows a page shows, and the answers to its buttons. Does not belong here: how it
looks (`templates/`), approving (`delivery/`), hiding and assigning (`storage/triage.py`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from communicator_pipeline.chain import attachments
from communicator_pipeline.chain.analyses import categories_of
from communicator_pipeline.delivery import approving, recovery
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.delivery.states import State
from communicator_pipeline.gateway.api.asking import Cursor, cursor_of, place_at
from communicator_pipeline.gateway.envelope import status_of
from communicator_pipeline.gateway.identity import (
    Identity,
    NotMeant,
    Opened,
    Reader,
    Writer,
    identify,
)
from communicator_pipeline.gateway.pages.rendering import page, query, safe_name
from communicator_pipeline.gateway.pages.together import Together
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.accounts import Accounts, NotFound
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.contacts import Contacts
from communicator_pipeline.storage.corrections import LONGEST_WHY, Corrections, Label
from communicator_pipeline.storage.database import Database, Row, utc_text
from communicator_pipeline.storage.inbox import Inbox, View, place_of
from communicator_pipeline.storage.message_versions import message_versions
from communicator_pipeline.storage.outbox import MAY_APPROVE, Outbox, Outgoing
from communicator_pipeline.storage.statistics import Statistics
from communicator_pipeline.storage.triage import Triage

PAGE = 50  # conversations

NEWS_EVERY = 2.0
"""Seconds between two looks for news, for each page that is open."""

SIGNED_IN_EVERY = 15.0
"""Seconds between two looks whether who listens is signed in still; listening is no use of the
session, which ends as if the page were closed."""

NAMES: Mapping[View, str] = {
    "needs_reply": "Needs reply",
    "high_priority": "High priority",
    "waiting_for_them": "Waiting for them",
    "assigned": "Assigned to me",
    "open": "Open",
    "snoozed": "Snoozed",
    "all": "All",
}

EMPTY: Mapping[View, str] = {
    "needs_reply": "Nobody waits for you. Enjoy it.",
    "high_priority": "Nothing urgent.",
    "waiting_for_them": "You wait for nobody.",
    "assigned": "Nothing is assigned to you.",
    "open": "Nothing is open.",
    "snoozed": "Nothing is snoozed.",
    "all": "Nothing here yet. Import an export with `communicator import FILE`, or connect an "
    "account with `communicator accounts add PLATFORM`.",
}

REGROUPED = (
    "The inbox shows it when the days have been made again: seconds, if a worker runs; else with "
    "`communicator materialize`."
)

ALIVE: tuple[State, ...] = ("approved", "sending", "unknown", "needs_human")

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Query(max_length=500)]
Filter = Annotated[str | None, Query(max_length=200)]
Text = Annotated[str, Form(max_length=200_000)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which list is shown."""

    view: View
    account: str | None
    category: str | None
    platform: str | None
    words: str | None
    contact: str | None = None  # a contact's id

    def address(self, path: str = "/inbox", **more: object) -> str:
        """The list's address, or that of something in it."""
        values: dict[str, object] = {
            "view": self.view,
            "account": self.account,
            "category": self.category,
            "platform": self.platform,
            "q": self.words,
            "contact": self.contact,
        }
        return path + query(**(values | more))


def wanted(
    view: View = "needs_reply",
    account: Filter = None,
    category: Filter = None,
    platform: Filter = None,
    q: Filter = None,
    contact: Filter = None,
) -> Wanted:
    return Wanted(
        view,
        account or None,
        category or None,
        platform or None,
        (q or "").strip() or None,
        contact or None,
    )


Shown = Annotated[Wanted, Depends(wanted)]


# --- pages -----------------------------------------------------------------------------------


@router.get("/inbox")
def inbox_page(
    request: Request,
    opened: Opened,
    identity: Reader,
    shown: Shown,
    of: Key = "",
    conversation: Key = "",
) -> Response:
    """All three panes. `of` and `conversation`: what is open on the right."""
    values = _list(opened, identity, shown, None)
    thread = _thread(opened, identity, of, conversation) if conversation else None
    return page(
        request, "inbox.html", identity, **values, thread=thread, open_key=f"{of} {conversation}"
    )


@router.get("/inbox/list")
def list_part(
    request: Request,
    opened: Opened,
    identity: Reader,
    shown: Shown,
    after: Cursor = None,
) -> Response:
    """The list alone, for news; or its next page."""
    values = _list(opened, identity, shown, after)
    template = "list_more.html" if after else "list.html"
    return page(request, template, identity, **values, open_key="", is_part=True)


@router.get("/inbox/conversation")
def conversation_part(
    request: Request, opened: Opened, identity: Reader, of: Key, conversation: Key
) -> Response:
    """The right pane alone."""
    thread = _thread(opened, identity, of, conversation)
    return page(request, "thread.html", identity, thread=thread)


@router.get("/inbox/message-versions")
def message_versions_part(
    request: Request, opened: Opened, identity: Reader, of: Key, message: Key
) -> Response:
    """What a message said before it was edited or deleted."""
    found = message_versions(opened, identity.user_id, of, message)
    return page(
        request, "message_versions.html", identity, versions=[v for v in found if not v.latest]
    )


@router.get("/inbox/corrections")
def corrections_part(
    request: Request, opened: Opened, identity: Reader, of: Key, conversation: Key
) -> Response:
    """What one can correct in a conversation, and what people have corrected."""
    reader = Inbox(opened.database, identity.user_id)
    corrections = Corrections(opened.database, identity.user_id)
    regrouped, relabelled = corrections.of_conversation(of, conversation)
    label = relabelled[0] if relabelled else {}
    return page(
        request,
        "corrections.html",
        identity,
        of=of,
        conversation=conversation,
        row=reader.conversation(conversation, of),
        categories=categories_of(opened.database, of),
        label=Label(label.get("category"), label.get("priority")),
        regroupings=[row for row in regrouped if row["undone_at"] is None],
        relabels=relabelled,
        others=reader.in_same_channel(of, conversation),
        longest_why=LONGEST_WHY,
    )


@router.get("/inbox/mergeable")
def mergeable_part(
    request: Request,
    opened: Opened,
    identity: Reader,
    of: Key,
    conversation: Key,
    words: Filter = None,
) -> Response:
    """The conversations that one could be merged with: the newest of its channel, or those in
    which words were said."""
    reader = Inbox(opened.database, identity.user_id)
    others = reader.in_same_channel(of, conversation, words or "")
    return page(
        request, "mergeable.html", identity, of=of, conversation=conversation, others=others
    )


@router.get("/inbox/file")
def file(
    opened: Opened, identity: Reader, of: Key, message: Key, position: Annotated[int, Query(ge=0)]
) -> Response:
    """A message's file: always to be saved, never shown, whatever it says that it is."""
    name, key = attachments.find_file(opened, identity.user_id, of, message, position)
    link = opened.lake.objects.download_url(key, safe_name(name))
    if link is not None:
        return RedirectResponse(link, 303, headers={"Cache-Control": "no-store"})
    content, _ = opened.lake.objects.get(key)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(safe_name(name), safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/outbox")
def outbox_page(request: Request, opened: Opened, identity: Reader) -> Response:
    """What is on its way, what went out, and what asks for a person."""
    box = Outbox(opened.database, identity.user_id)
    rows = box.deliveries(limit=100)
    return page(
        request,
        "outbox.html",
        identity,
        rows=rows,
        options={row.delivery.delivery_id: recovery.options(row.platform) for row in rows},
        notices=box.notices(),
        switches=box.switches(),
    )


@router.get("/inbox/news")
async def news(request: Request, opened: Opened, since: Filter = None) -> Response:
    """Server-sent events: one named `news` whenever something of the user's has changed, also
    between the page's making (`since`) and now, or while the connection was lost."""
    identity = await run_in_threadpool(identify, request)
    if identity is None:
        return Response(status_code=401)
    user = identity.user_id

    async def events() -> AsyncIterator[str]:
        before, looked = since, time.monotonic()
        yield "retry: 5000\n\n"
        while not await request.is_disconnected():
            if time.monotonic() - looked > SIGNED_IN_EVERY:
                looked = time.monotonic()
                if await run_in_threadpool(identify, request, is_use=False) is None:
                    return
            now = await run_in_threadpool(_signature, opened.database, user)
            if now != before:
                before = now
                yield "event: news\ndata: look\n\n"  # without data a browser drops it
            await asyncio.sleep(max(NEWS_EVERY, opened.look_every))

    return StreamingResponse(events(), media_type="text/event-stream")


def _signature(database: Database, user_id: str) -> str:
    """Another one whenever the inbox looks otherwise."""
    row = database.execute(
        "SELECT (SELECT sum(generation) || ' ' || count(*) FROM published_days "
        "WHERE account IN mine) AS days, (SELECT max(changed_at) FROM deliveries "
        "WHERE account IN mine) AS sent, (SELECT max(changed_at) FROM conversation_states "
        "WHERE account IN mine) AS done, (SELECT max(id) FROM relabels WHERE account IN mine) "
        "AS relabelled FROM (SELECT 1)".replace(
            "mine", "(SELECT account FROM account_members WHERE user_id = ?1)"
        ),
        (user_id,),
    )[0]
    return " ".join(str(value) for value in row.values())


# --- actions ---------------------------------------------------------------------------------


@router.post("/inbox/approve")
def approve(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    text: Text = "",
    seen: Text = "",
) -> Response:
    found = approving.approve(
        opened.database,
        identity.user_id,
        of,
        conversation,
        promise_of(opened, of),
        text=text or None,
        seen=seen or None,
    )
    _note(opened, identity, "approved", of, conversation, found.approval_id)
    left = (found.send_at - datetime.now(UTC)).total_seconds()
    when = f"in {max(0, round(left))} s" if left < 120 else f"{found.send_at:%Y-%m-%d %H:%M} UTC"
    words = f"Approved: it leaves {when}." if found.is_new else "It was approved already."
    undo = "/inbox/undo" + query(approval=found.approval_id, of=of, conversation=conversation)
    return said(request, identity, words, undo=undo, warnings=found.warnings, goes_on=True)


@router.post("/inbox/approve-all")
def approve_all(
    request: Request,
    opened: Opened,
    identity: Writer,
    chosen: Annotated[list[str], Form()] = [],  # noqa: B006
) -> Response:
    """Approve the drafts of several conversations, each as it was shown in the list."""
    done, refused = 0, []
    for text in chosen[:PAGE]:
        of, conversation, shown = [*text.splitlines(), "", "", ""][:3]
        try:
            row = Inbox(opened.database, identity.user_id).conversation(conversation, of)
            proposal = approving.propose(opened.database, identity.user_id, of, conversation)
            if _as_shown(row) != shown:
                raise approving.SourceChanged("it went on since you looked")
            found = approving.approve(
                opened.database,
                identity.user_id,
                of,
                conversation,
                promise_of(opened, of),
                seen=proposal.source_version,
            )
            _note(opened, identity, "approved", of, conversation, found.approval_id)
            done += 1
        except (ValueError, NotFound, PermissionError) as error:
            refused.append(f"{conversation}: {error}")
    words = (
        f"Approved: {done} of {len(chosen)}." if chosen else "Choose conversations with x first."
    )
    return said(request, identity, words, warnings=refused, again=True)


@router.post("/inbox/undo")
def undo(
    request: Request, opened: Opened, identity: Writer, approval: Key, of: Key, conversation: Key
) -> Response:
    approving.undo(opened.database, identity.user_id, approval)
    _note(opened, identity, "took back", of, conversation, approval)
    return said(request, identity, "Taken back.", again=True)


@router.post("/inbox/edit")
def edit(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    text: Text = "",
    seen: Text = "",
) -> Response:
    approving.edit(opened.database, identity.user_id, of, conversation, text, seen=seen or None)
    _note(opened, identity, "edited", of, conversation)
    return said(request, identity, "Kept. Approve it to send it.", again=True)


@router.post("/inbox/reject")
def reject(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    why: Annotated[str, Form(max_length=1_000)] = "",
) -> Response:
    approving.reject(opened.database, identity.user_id, of, conversation, why)
    _note(opened, identity, "rejected", of, conversation)
    return said(request, identity, "The draft is rejected.", again=True)


@router.post("/inbox/done")
def done(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    newest: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    now = datetime.now(UTC)
    Triage(opened.database, identity.user_id).done(of, conversation, newest or None, now)
    _note(opened, identity, "done", of, conversation)
    back = "/inbox/reopen" + query(of=of, conversation=conversation)
    return said(
        request, identity, "Done. It comes back if somebody writes.", undo=back, goes_on=True
    )


@router.post("/inbox/snooze")
def snooze(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    until: Annotated[str, Form(max_length=40)] = "",
    newest: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    now = datetime.now(UTC)
    zone = zone_of(request)
    moment = snoozed_until(until, now, zone)
    Triage(opened.database, identity.user_id).snooze(of, conversation, moment, newest or None, now)
    _note(opened, identity, "snoozed", of, conversation, utc_text(moment))
    back = "/inbox/reopen" + query(of=of, conversation=conversation)
    words = f"Snoozed until {moment.astimezone(zone):%A %H:%M}, or until somebody writes."
    return said(request, identity, words, undo=back, goes_on=True)


@router.post("/inbox/reopen")
def reopen(
    request: Request, opened: Opened, identity: Writer, of: Key, conversation: Key
) -> Response:
    Triage(opened.database, identity.user_id).reopen(of, conversation, datetime.now(UTC))
    _note(opened, identity, "reopened", of, conversation)
    return said(request, identity, "It is open again.", again=True)


@router.post("/inbox/assign")
def assign(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    to: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    Triage(opened.database, identity.user_id).assign(
        of, conversation, to or None, datetime.now(UTC)
    )
    _note(opened, identity, "assigned", of, conversation, to)
    words = f"Assigned to {to}." if to else "Assigned to nobody."
    return said(request, identity, words, again=True)


@router.post("/inbox/relabel")
def relabel(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    category: Annotated[str, Form(max_length=200)] = "",
    priority: Annotated[str, Form(max_length=20)] = "",
    why: Annotated[str, Form(max_length=LONGEST_WHY)] = "",
) -> Response:
    before = _relabel(opened, identity, of, conversation, category, priority, why)
    back = "/inbox/relabel/undo" + query(
        of=of, conversation=conversation, category=before.category, priority=before.priority
    )
    return said(request, identity, "Set.", undo=back, again=True)


@router.post("/inbox/relabel/undo")
def undo_relabel(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    conversation: Key,
    category: Filter = None,
    priority: Filter = None,
) -> Response:
    """Set again what was set before; nothing: as the analysis says."""
    _relabel(opened, identity, of, conversation, category or "", priority or "", "")
    return said(request, identity, "It is as it was.", again=True)


@router.post("/inbox/merge")
def merge(
    request: Request, opened: Opened, identity: Writer, of: Key, conversation: Key, other: Key
) -> Response:
    found = Corrections(opened.database, identity.user_id).merge(
        of, conversation, other, datetime.now(UTC)
    )
    _note(opened, identity, "merged", of, conversation, other)
    back = _taken_back(found.regrouping_id)
    return said(request, identity, f"Merged. {REGROUPED}", undo=back)


@router.post("/inbox/split")
def split(
    request: Request, opened: Opened, identity: Writer, of: Key, conversation: Key, message: Key
) -> Response:
    found = Corrections(opened.database, identity.user_id).split(
        of, conversation, message, datetime.now(UTC)
    )
    _note(opened, identity, "split", of, conversation, message)
    back = _taken_back(found.regrouping_id)
    return said(request, identity, f"Split. {REGROUPED}", undo=back)


@router.post("/inbox/regrouping/undo")
def undo_regrouping(
    request: Request, opened: Opened, identity: Writer, regrouping: Key
) -> Response:
    found = Corrections(opened.database, identity.user_id).undo(regrouping, datetime.now(UTC))
    _note(
        opened, identity, f"took a {found.kind} back", found.account, found.conversation_id,
        regrouping,
    )  # fmt: skip
    return said(request, identity, f"Taken back. {REGROUPED}")


@router.post("/outbox/resolve")
def resolve(
    request: Request,
    opened: Opened,
    identity: Writer,
    delivery: Key,
    choice: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    row = Outbox(opened.database, identity.user_id).get(delivery)
    known = {option.choice: option.choice for option in recovery.options(row.platform)}
    if choice not in known:
        raise ValueError(f"choose one of: {', '.join(known)}")
    row = recovery.resolve(opened.database, identity.user_id, delivery, known[choice])
    _note(opened, identity, "resolved", row.delivery.account, row.conversation_id, choice)
    return said(request, identity, f"It is now {row.delivery.state}.")


@router.post("/outbox/read")
def read_notices(request: Request, opened: Opened, identity: Writer, approval: Key) -> Response:
    Outbox(opened.database, identity.user_id).read_notices(approval, datetime.now(UTC))
    return said(request, identity, "Read.")


# --- what a page is made of ------------------------------------------------------------------


def _list(opened: Stores, identity: Identity, shown: Wanted, after: str | None) -> dict[str, Any]:
    user = identity.user_id
    accounts = Accounts(opened.database, user).all()
    keys = [account.account for account in accounts]
    together = Together(opened.database)
    # Before the rows: late is too often.
    since = together.add(lambda database: _signature(database, user))
    listed = together.add(lambda database: _rows(database, user, shown, after))
    alive = together.add(lambda database: _alive(database, user))
    counts = together.add(lambda database: Inbox(database, user).counts())
    healths = together.add(
        lambda database: Connections(replace(opened, database=database)).healths(keys)
    )
    model = together.add(lambda database: Statistics(database, user).model_state())
    contact = (
        together.add(lambda database: Contacts(database, user).get(shown.contact or ""))
        if shown.contact
        else None
    )
    together.ask()
    rows, found, error = listed.value
    next_page = None
    if len(rows) > PAGE:
        rows = rows[:PAGE]
        next_page = shown.address("/inbox/list", after=cursor_of(place_of(rows[-1])))
    for row in rows:
        row["as_shown"] = _as_shown(row)
        row["on_its_way"] = alive.value.get((row["account"], row["conversation_id"]))
    return {
        "since": since.value,
        "shown": shown,
        "rows": rows,
        "found": found,
        "error": error,
        "next_page": next_page,
        "counts": counts.value,
        "names": NAMES,
        "empty": EMPTY[shown.view],
        "accounts": accounts,
        "platforms": sorted({account.platform for account in accounts}),
        "model_words": model.value.words,
        "contact": contact.value if contact else None,
        "troubles": [health for health in healths.value if health.trouble_kind],
    }


def _rows(
    database: Database, user: str, shown: Wanted, after: str | None
) -> tuple[list[Row], list[Row], str | None]:
    """The conversations of a view, one more than a page; or what a search found, or why not."""
    reader = Inbox(database, user)
    if shown.words:
        try:
            return [], reader.search(shown.words, shown.account, PAGE), None
        except ValueError as refused:
            return [], [], str(refused)
    rows = reader.conversations(
        shown.account,
        shown.category,
        shown.view,
        PAGE + 1,
        platform=shown.platform,
        contact_id=shown.contact,
        after=place_at(after) if after else None,
    )
    return rows, [], None


def _alive(database: Database, user: str) -> dict[tuple[str, str], Outgoing]:
    rows = Outbox(database, user).deliveries(states=ALIVE, limit=1_000)
    return {(row.delivery.account, row.conversation_id): row for row in rows}


def _thread(opened: Stores, identity: Identity, of: str, conversation: str) -> dict[str, Any]:
    user = identity.user_id
    together = Together(opened.database)
    # First those that refuse what is not the user's.
    found = together.add(lambda database: Inbox(database, user).conversation(conversation, of))
    role = together.add(lambda database: Outbox(database, user).role(of))
    replies = together.add(
        lambda database: Outbox(database, user).deliveries(of, conversation_id=conversation)
    )
    members = together.add(
        lambda database: database.execute(
            "SELECT user_id FROM account_members WHERE account = ? ORDER BY user_id", (of,)
        )
    )
    messages = together.add(lambda database: Inbox(database, user).messages(of, conversation))
    notices = together.add(lambda database: Outbox(database, user).notices(of))
    contacts = together.add(
        lambda database: Contacts(database, user).of_conversation(of, conversation)
    )
    proposal = together.add(lambda database: approving.proposed(database, user, of, conversation))
    together.ask()
    return {
        "row": found.value,
        "key": f"{of} {conversation}",
        "messages": messages.value,
        "proposal": proposal.value,
        "contacts": contacts.value,
        "on_its_way": [r for r in replies.value if r.delivery.state in ALIVE],
        "went_out": [r for r in replies.value if r.delivery.state not in ALIVE][:5],
        "notices": [n for n in notices.value if n["conversation_id"] == conversation],
        "may_write": role.value in MAY_APPROVE,
        "members": [member["user_id"] for member in members.value],
        "dagster": dagster_address(of, found.value["day"]),
        "ask": query(of=of, conversation=conversation),
    }


def _relabel(
    opened: Stores,
    identity: Identity,
    of: str,
    conversation: str,
    category: str,
    priority: str,
    why: str,
) -> Label:
    """Set both, or give what is empty back to the analysis; returns what was set before."""
    if priority and not (priority.isascii() and priority.isdigit()):
        raise ValueError(f"a priority is a number between 0 and 100, not {priority!r}")
    before = Corrections(opened.database, identity.user_id).relabel(
        of,
        conversation,
        categories_of(opened.database, of),
        datetime.now(UTC),
        category=category or None,
        priority=int(priority) if priority else None,
        why=why,
    )
    set_to = f"category {category or 'as analysed'}, priority {priority or 'as analysed'}"
    _note(opened, identity, "relabelled", of, conversation, set_to)
    return before


def _taken_back(regrouping_id: str) -> str:
    return "/inbox/regrouping/undo" + query(regrouping=regrouping_id)


def dagster_address(account: str, day: str) -> str:
    """Where Dagster's own pages show the partition that made a conversation's draft."""
    base = os.environ.get("DAGSTER_WEBSERVER_URL", "http://127.0.0.1:3000").rstrip("/")
    partition = quote(f"{account}|{day[:7]}", safe="")
    return f"{base}/assets/drafted_replies?view=partitions&partition={partition}"


def _as_shown(row: Row) -> str:
    """Another one whenever the list shows a conversation otherwise."""
    return f"{row['last_message_at']} {row['day']} {row['draft_version']}"


def zone_of(request: Request) -> ZoneInfo:
    """The zone that the browser says it is in; UTC if it says none that is known."""
    try:
        return ZoneInfo(request.headers.get("x-time-zone", "") or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def snoozed_until(choice: str, now: datetime, zone: ZoneInfo) -> datetime:
    """The moment (UTC) that a choice means for somebody in a zone. Pure; raises `ValueError`."""
    local = now.astimezone(zone)
    morning = local.replace(hour=9, minute=0, second=0, microsecond=0)
    meant: Mapping[str, Callable[[], datetime]] = {
        "later": lambda: now + timedelta(hours=3),
        "tomorrow": lambda: morning + timedelta(days=1),
        "monday": lambda: morning + timedelta(days=7 - local.weekday()),
    }
    if choice in meant:
        return meant[choice]().astimezone(UTC)
    try:
        moment = datetime.fromisoformat(choice)
    except ValueError:
        raise ValueError("say until when: later, tomorrow, monday, or a time") from None
    return (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(UTC)


def _note(
    opened: Stores,
    identity: Identity,
    action: str,
    account: str,
    conversation: str,
    detail: str = "",
) -> None:
    audit.note(
        opened.database,
        identity.user_id,
        action,
        datetime.now(UTC),
        account=account,
        target=conversation,
        detail=detail,
        via=identity.via,
    )


def said(
    request: Request,
    identity: Identity,
    words: str,
    *,
    undo: str | None = None,
    warnings: Any = (),
    again: bool = False,
    goes_on: bool = False,
) -> Response:
    """A toast; the browser then loads the list again, and opens what it should."""
    triggers = (
        ["inbox-changed"] + (["go-on"] if goes_on else []) + (["open-again"] if again else [])
    )
    return page(
        request,
        "toast.html",
        identity,
        headers={"HX-Trigger": ", ".join(triggers)},
        words=words,
        undo=undo,
        warnings=list(warnings),
        is_error=False,
    )


def said_error(request: Request, error: Exception) -> Response:
    """An error in words: a toast for a part of a page, else a page of its own."""
    status, _, message = status_of(error)
    if status == 401 and not request.headers.get("hx-request"):
        return RedirectResponse("/login", 303)
    headers = {"HX-Redirect": "/login"} if status == 401 else {}
    if isinstance(error, NotMeant):
        headers["HX-Refresh"] = "true"
    part = "toast.html" if request.headers.get("hx-request") else "error.html"
    return page(
        request, part, None, status, headers,
        words=message, undo=None, warnings=[], is_error=True,
    )  # fmt: skip
