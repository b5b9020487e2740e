"""`communicator drafts`, `approve`, `edit`, `reject`, `undo`, `outbox`, `resolve`, `why` and
`sending`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import click
import typer
from rich.text import Text

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    err,
    errors_in_words,
    escaped,
    fail,
    interactive,
    one_line,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.delivery import approving, recovery
from communicator_pipeline.delivery.approving import Approved
from communicator_pipeline.delivery.dispatch import what_would_go
from communicator_pipeline.delivery.explaining import as_json as explained
from communicator_pipeline.delivery.explaining import explain
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.outbox import Outbox, Outgoing

Conversation = Annotated[str, typer.Argument(help="The id that `communicator inbox` shows.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="The account, if ids repeat.")]

sending = typer.Typer(help="Stop and open sending; auto-approval.", no_args_is_help=True)


def drafts(
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Proposed replies that wait for your yes or no, the most urgent first."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        on_their_way = {
            (r.delivery.account, r.conversation_id)
            for r in Outbox(opened.database, whose).deliveries(account, limit=10_000)
            if r.delivery.state in ("approved", "sending", "unknown", "needs_human")
        }
        rows = []
        for row in Inbox(opened.database, whose).conversations(account, None, "needs_reply", limit):
            if (row["account"], row["conversation_id"]) in on_their_way:
                continue
            found = approving.propose(
                opened.database, whose, row["account"], row["conversation_id"]
            )
            if found.text and found.rejected_by is None:
                rows.append((row, found))
    if as_json:
        print_json(
            [
                {
                    "account": row["account"],
                    "conversation_id": row["conversation_id"],
                    "summary": row["summary"],
                    "priority": row["priority"],
                    "text": found.text,
                    "edited_by": found.edited_by,
                    "outcome": found.draft_outcome,
                    "flags": found.draft_flags,
                    "source_version": found.source_version,
                }
                for row, found in rows
            ]
        )
        return
    if not rows:
        out.print("No draft waits for you.")
    for row, found in rows:
        out.print(Text(f"{row['priority']:>3} {one_line(row['summary'])}"), no_wrap=True)
        note = " (yours)" if found.edited_by else ""
        note = " (has gaps to fill)" if found.draft_outcome == "needs_fill" and not note else note
        out.print(Text(f"    → {one_line(found.text)}{note}", style="green"), soft_wrap=True)
        out.print(
            f"    communicator approve {row['conversation_id']} --account {row['account']}",
            style="dim",
            markup=False,
            soft_wrap=True,
        )


def approve(
    conversation: Conversation,
    account: OfAccount = None,
    text: Annotated[str | None, typer.Option(help="Send this instead of the draft.")] = None,
    at: Annotated[
        datetime | None, typer.Option(help="Not before this time (UTC), 2026-11-03T09:00.")
    ] = None,
    any_time: Annotated[
        bool, typer.Option("--any-time", help="Also outside your sending hours.")
    ] = False,
    again: Annotated[
        str | None, typer.Option(help="Approve once more what this delivery was: its id.")
    ] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Approve the reply to a conversation. It leaves when the undo window is over."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        when = at.replace(tzinfo=UTC) if at else None
        key, found = _conversation(opened, whose, conversation, account)
        promise = promise_of(opened, key)
        if again is not None:
            approved = approving.reapprove(
                opened.database, whose, again, promise, at=when, any_time=any_time
            )
        else:
            approved = approving.approve(
                opened.database, whose, key, found, promise, text=text, at=when, any_time=any_time
            )
    if as_json:
        print_json(
            {
                "approval_id": approved.approval_id,
                "is_new": approved.is_new,
                "send_at": approved.send_at.isoformat(),
                "parts": approved.parts,
                "warnings": approved.warnings,
            }
        )
        return
    _say_approved(approved)


def _say_approved(approved: Approved) -> None:
    if not approved.is_new:
        out.print(f"{approved.approved_by} has approved this already.")
    for number, part in enumerate(approved.parts, start=1):
        of = f" {number} of {len(approved.parts)}" if len(approved.parts) > 1 else ""
        out.print(f"Part{of}: {part}" if of else part, markup=False, style="green")
    left = (approved.send_at - datetime.now(UTC)).total_seconds()
    when = f"in {left:.0f} s" if left < 120 else f"{approved.send_at:%Y-%m-%d %H:%M} UTC"
    out.print(f"It leaves {when}. To take it back: communicator undo {approved.approval_id}")
    for warning in approved.warnings:
        out.print(f"But: {warning}", markup=False, style="yellow", soft_wrap=True)


def edit(
    conversation: Conversation,
    text: Annotated[
        str | None, typer.Argument(help="The new text. Without it, your editor opens.")
    ] = None,
    account: OfAccount = None,
    user: AsUser = None,
) -> None:
    """Put another text in the draft's place; `approve` sends it."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        key, found = _conversation(opened, whose, conversation, account)
        if text is None:
            if not interactive():
                fail("give the text: communicator edit CONVERSATION TEXT", 2)
            before = approving.propose(opened.database, whose, key, found).text
            text = click.edit(before)
            if text is None:
                fail("nothing was changed")
        proposal = approving.edit(opened.database, whose, key, found, text)
    out.print(proposal.text, markup=False, style="green")
    out.print(f"To send it: communicator approve {found} --account {key}", markup=False)


def reject(
    conversation: Conversation,
    why: Annotated[str, typer.Option(help="What is wrong with it.")] = "",
    account: OfAccount = None,
    user: AsUser = None,
) -> None:
    """Say that the draft is not wanted. It is not shown again until the conversation goes on."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        key, found = _conversation(opened, whose, conversation, account)
        approving.reject(opened.database, whose, key, found, why)
    out.print("The draft is rejected.")


def redraft(
    conversation: Conversation,
    instruction: Annotated[
        str, typer.Argument(help='What it should be like, such as "shorter".')
    ] = "",
    account: OfAccount = None,
    user: AsUser = None,
) -> None:
    """Have the reply drafted anew, as you say. What was there before stays as a version."""
    from communicator_pipeline import runs  # Dagster takes seconds to import
    from communicator_pipeline.chain import redrafting

    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        key, found = _conversation(opened, whose, conversation, account)
        made = redrafting.redraft(opened, whose, key, found, instruction)
        with runs.open_instance() as instance:
            runs.note_redraft(instance, key, found, made)
    if made.drafted.made.stood_in:
        err.print(f"[yellow]![/yellow] {escaped([made.drafted.made.stood_in])[0]}", soft_wrap=True)
    out.print(made.drafted.draft.text, markup=False, soft_wrap=True)


def undo(
    approval: Annotated[str, typer.Argument(help="The approval's or the delivery's id.")],
    rest: Annotated[
        bool, typer.Option("--rest", help="What has not left of a reply that has begun.")
    ] = False,
    user: AsUser = None,
) -> None:
    """Take an approval back before it has left."""
    with errors_in_words():
        opened = stores()
        try:
            taken = approving.undo(opened.database, acting_user(opened, user), approval, rest=rest)
        except approving.TooLate as late:
            fail(str(late))
    out.print(f"Taken back: {len(taken)} {'part' if len(taken) == 1 else 'parts'}.")


def outbox(
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is over and done.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Replies on their way, what they wait for, and what needs you."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        box = Outbox(opened.database, whose)
        rows = box.deliveries(account, limit=limit)
        if not everything:
            rows = [r for r in rows if r.delivery.state not in _OVER]
        waits = {
            row.delivery.delivery_id: why
            for row, why in what_would_go(opened.database, datetime.now(UTC), account)
        }
        notices = box.notices(account)
        switches = box.switches()
    if as_json:
        print_json(
            {
                "deliveries": [_row(row, waits) for row in rows],
                "notices": notices,
                "switches": switches,
            }
        )
        return
    for switch in switches:
        what = switch["account"] or "everything"
        out.print(f"! sending is stopped for {what}: {switch['why']}", markup=False, style="red")
    for notice in notices:
        out.print(f"! {notice['text']}", markup=False, style="yellow", soft_wrap=True)
    if not rows:
        out.print("Nothing is on its way.")
    for row in rows:
        delivery = row.delivery
        part = f" {delivery.number}/{delivery.of}" if delivery.of > 1 else ""
        head = Text(f"{delivery.state}{part}", style=_STYLES.get(delivery.state, ""))
        head.append(f" · {delivery.account} · {ago(delivery.changed_at.isoformat())} ago")
        out.print(head)
        out.print(Text(f"    {one_line(delivery.text)}"), no_wrap=True, overflow="ellipsis")
        told = waits.get(delivery.delivery_id) or delivery.reason
        if told:
            out.print(f"    {told}", markup=False, style="yellow", soft_wrap=True)
        out.print(f"    {delivery.delivery_id}", style="dim", markup=False)
        if delivery.state == "needs_human":
            _say_options(row)


_OVER = ("confirmed", "sent", "canceled", "expired", "superseded", "failed")
_STYLES = {"needs_human": "red", "unknown": "yellow", "failed": "red", "sent": "green"}


def _say_options(row: Outgoing) -> None:
    out.print("    Nobody knows whether it arrived. Look there, then say:")
    for option in recovery.options(row.platform):
        out.print(
            f"      communicator resolve {row.delivery.delivery_id} '{option.choice}'",
            markup=False,
            soft_wrap=True,
        )
        out.print(f"        {option.risk}", markup=False, style="dim", soft_wrap=True)


def _row(row: Outgoing, waits: dict[str, str]) -> dict[str, Any]:
    delivery = row.delivery
    return {
        "delivery_id": delivery.delivery_id,
        "approval_id": delivery.approval_id,
        "account": delivery.account,
        "conversation_id": row.conversation_id,
        "state": delivery.state,
        "text": delivery.text,
        "part": delivery.number,
        "parts": delivery.of,
        "attempts": delivery.attempts,
        "message_id": delivery.message_id,
        "waits_for": waits.get(delivery.delivery_id, ""),
        "reason": delivery.reason,
        "approved_by": row.approved_by,
        "send_at": row.send_at.isoformat(),
        "options": [o._asdict() for o in recovery.options(row.platform)]
        if delivery.state == "needs_human"
        else [],
    }


def resolve(
    delivery: Annotated[str, typer.Argument(help="The delivery's id, from the outbox.")],
    choice: Annotated[
        str | None, typer.Argument(help="'it was sent', 'send it again' or 'drop it'.")
    ] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Decide about a reply of which nobody knows whether it arrived."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        row = Outbox(opened.database, whose).get(delivery)
        if choice is None:
            if row.delivery.state != "needs_human":
                fail(f"{delivery} asks for nothing: it is {row.delivery.state}")
            _say_options(row)
            return
        known = {option.choice: option.choice for option in recovery.options(row.platform)}
        if choice not in known:
            fail(f"{choice!r} is none of the choices ({', '.join(map(repr, known))})", 2)
        row = recovery.resolve(opened.database, whose, delivery, known[choice])
    if as_json:
        print_json(_row(row, {}))
        return
    out.print(f"{delivery} is now {row.delivery.state}.")


def why(
    delivery: Annotated[str, typer.Argument(help="The delivery's id, from the outbox.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Why a reply went out, and what became of it: back to the messages that it rests on."""
    from communicator_pipeline import runs

    with errors_in_words():
        opened = stores()
        found = explain(opened.database, acting_user(opened, user), delivery)
        with runs.open_instance() as instance:
            run_id = runs.draft_run(
                instance, found.reply.delivery.account, found.approval["draft_day"],
                found.reply.approved_at,
            )  # fmt: skip
    if as_json:
        print_json(explained(found, run_id))
        return
    one, approval = found.reply.delivery, found.approval
    out.print(Text(one.text, style="green"))
    seen = f", as {one.message_id}" if one.message_id else ""
    out.print(f"{one.state}{seen}", markup=False, style="bold")
    if one.reason:
        out.print(one.reason, markup=False, soft_wrap=True)
    out.print()
    who = "a policy that they opened" if approval["automatic"] else approval["approved_by"]
    out.print(f"approved  {approval['approved_at'][:19]} UTC by {who}", markup=False)
    out.print(f"content   {approval['content_hash'][:16]}…", markup=False)
    if found.draft is not None:
        changed = ", edited" if approval["edited"] else ""
        out.print(
            f"draft     {found.draft['day']} version {found.draft['version']} by "
            f"{found.draft['model']}{changed}",
            markup=False,
        )
        out.print(f"          {found.draft['reason']}", markup=False, style="dim")
        out.print(f"run       {run_id or 'not recorded any more'}", markup=False)
    else:
        out.print("draft     none: a text of the approver's own")
    rests_on = set(found.draft["rests_on"]) if found.draft else set()
    out.print("messages  that the approver had seen:")
    for message in found.messages[-10:]:
        sign = "*" if message.message_id in rests_on else " "
        since = " (changed since)" if message.changed_since else ""
        text = one_line(message.text)[:80] or "(gone)"
        line = f"        {sign} {message.author}: {text}"
        out.print(f"{line} [v{message.version}]{since}", markup=False)
    if rests_on:
        out.print("          * what the draft rests on", style="dim")
    out.print("attempts")
    for attempt in found.attempts:
        error = f": {attempt['error']}" if attempt["error"] else ""
        out.print(
            f"          {attempt['started_at'][:23]} {attempt['outcome'] or 'under way'}{error}",
            markup=False,
        )
    out.print("log")
    for entry in found.log:
        reason = f" ({entry['reason']})" if entry["reason"] else ""
        out.print(
            f"          {entry['at'][:23]} {entry['before'] or '·'} → {entry['after']} "
            f"by {entry['actor']}{reason}",
            markup=False,
        )


@sending.command("stop")
def stop(
    why_stopped: Annotated[str, typer.Option("--why", help="For whoever wonders later.")] = "",
    account: Annotated[
        str | None, typer.Option(help="Only this account. Without it: everything.")
    ] = None,
    user: AsUser = None,
) -> None:
    """The kill switch: nothing leaves any more, what is approved waits."""
    with errors_in_words():
        opened = stores()
        box = Outbox(opened.database, acting_user(opened, user))
        box.stop_sending(account, why_stopped, datetime.now(UTC))
    out.print(f"Nothing leaves {account or 'any account'} until: communicator sending resume")


@sending.command("resume")
def resume(
    account: Annotated[
        str | None, typer.Option(help="Only this account. Without it: everything.")
    ] = None,
    user: AsUser = None,
) -> None:
    """Take the kill switch back."""
    with errors_in_words():
        opened = stores()
        Outbox(opened.database, acting_user(opened, user)).resume_sending(account)
    out.print("Sending goes on.")


@sending.command("auto")
def auto(
    account: Annotated[str, typer.Argument(help="The account's key.")],
    category: Annotated[str | None, typer.Argument(help="The category, such as question.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="The draft's confidence must reach it.")
    ] = 0.9,
    cap: Annotated[int, typer.Option(min=1, max=100, help="So many a day at most.")] = 5,
    revoke: Annotated[bool, typer.Option("--revoke", help="Close it again.")] = False,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Let drafts of a category go out without you; without a category: what is open."""
    with errors_in_words():
        opened = stores()
        box = Outbox(opened.database, acting_user(opened, user))
        now = datetime.now(UTC)
        if category is not None and revoke:
            box.revoke_policy(account, category, "closed by hand", now)
        elif category is not None:
            box.open_policy(account, category, threshold, cap, now)
        found = box.policies(account, now)
    if as_json:
        print_json([vars_of(policy) for policy in found.values()])
        return
    if not found:
        out.print("Nothing goes out without you.")
    table = plain_table("category", "threshold", "a day", "state")
    for name, policy in found.items():
        state = "open" if policy.is_open else f"closed: {policy.revoked_why}"
        table.add_row(*escaped([name, policy.threshold, policy.daily_cap, state]))
    if found:
        out.print(table)


def vars_of(policy: Any) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__slots__}


def _conversation(
    opened: Stores, whose: str, conversation: str, account: str | None
) -> tuple[str, str]:
    row = Inbox(opened.database, whose).conversation(conversation, account)
    return row["account"], row["conversation_id"]
