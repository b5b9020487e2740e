"""A round of telling: what is new is noted, what waits and may go now is claimed, sent, recorded.

Belongs here: the order of these steps. Does not belong here: each of them (this package's other
modules, `storage/notifications.py`), asking for a round (`worker.py`, `schedules.py`).

Everything is told once: it has a row before anything is sent, and a row is claimed by one statement
before a message leaves. Killed after the claim, it is not sent again, for it may have arrived; it
stays in the log as not told. What every target refused is tried once more, five minutes later.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from communicator_pipeline.chain import daily_digest
from communicator_pipeline.notifying.addresses import private_allowed
from communicator_pipeline.notifying.sending import send as send_by_child
from communicator_pipeline.notifying.urgent import AGAIN_AFTER, news, urgent
from communicator_pipeline.notifying.when import (
    days_to_digest,
    digest_day,
    read_quiet,
    read_time,
    read_zone,
)
from communicator_pipeline.notifying.wording import (
    DEFAULT_URL,
    Message,
    digest_message,
    trial_message,
    trouble_message,
    urgent_message,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage import notifications as kept
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.connections import Connections, Health
from communicator_pipeline.storage.database import Database, from_utc_text, utc_text
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.notifications import OPERATORS, Kind, Notice, Target, Targets
from communicator_pipeline.storage.settings import Settings

TRIES = 2
"""Of what every target refused. A third would come too late to be news."""

AGAIN_IN = timedelta(minutes=5)

GAPS: Mapping[Kind, timedelta] = {
    "urgent": timedelta(minutes=1),
    "digest": timedelta(0),
    "failed_runs": timedelta(minutes=15),
    "dead_letters": timedelta(minutes=15),
    "dead_tokens": timedelta(minutes=15),
}
"""Between two messages of a kind to the same person: what comes meanwhile is in the next one."""

LOOK_BACK = timedelta(days=1)
"""What is wrong for longer than that when operators begin to be told is no news."""

NEEDS_A_PERSON = ("login needed", "over budget")
"""The troubles of a connection that do not pass by themselves."""

MOST_LOOKED_AT = 200
"""Conversations of a user that need a reply, by priority: who has more of them urgent is told of
these."""

KEY_MISSING = (
    "its address was encrypted with a key that is not here: put the key back, or add the target "
    "again"
)

Send = Callable[[str, Message, bool], str]
"""(address, message, private) → why it failed, empty if it did not."""

log = logging.getLogger("communicator.notifying")


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed: its id, what it is called in words, when it ended (UTC)."""

    run_id: str
    words: str
    ended_at: datetime


FailedRuns = Callable[[datetime], Sequence[FailedRun]]
"""The runs that failed since a moment (UTC)."""


def public_url(database: Database) -> str:
    """Where the inbox is reached, for links: the installation's setting `public_url`, else
    `COMMUNICATOR_URL`."""
    kept_url = Settings(database, None).get("public_url")
    return str(kept_url or os.environ.get("COMMUNICATOR_URL") or DEFAULT_URL)


# --- noting ----------------------------------------------------------------------------------


def note_news(stores: Stores, failed_runs: FailedRuns, now: datetime) -> None:
    """Note what users with a target are to be told of, each thing once. Sends nothing."""
    database = stores.database
    kept.settle(database, now)
    for person in kept.users_to_tell(database):
        try:
            kept.notice(
                database, person["user_id"], _news_of(stores, person, failed_runs, now), now
            )
        except Exception:  # one person's settings keep nobody else from being told
            log.exception("what %s is to be told of could not be found", person["user_id"])


def _news_of(
    stores: Stores, person: Mapping[str, Any], failed_runs: FailedRuns, now: datetime
) -> list[Notice]:
    database, user_id = stores.database, person["user_id"]
    settings = Settings(database, user_id)
    noticed = kept.last_noticed(database, user_id, now - AGAIN_AFTER)
    notices = news(_urgent(database, user_id, settings, now), noticed, now)
    notices += _digest(database, user_id, settings, now)
    if person["is_admin"] and person["operator_since"]:
        since = max(from_utc_text(person["operator_since"]), now - LOOK_BACK)
        notices += _troubles(stores, failed_runs, since)
    return notices


def _urgent(
    database: Database, user_id: str, settings: Settings, now: datetime
) -> list[Mapping[str, Any]]:
    rows = Inbox(database, user_id).conversations(view="needs_reply", limit=MOST_LOOKED_AT, now=now)
    return urgent(rows, user_id, settings.urgent_priority(), now)


def _digest(database: Database, user_id: str, settings: Settings, now: datetime) -> list[Notice]:
    at = settings.digest_at()
    day = digest_day(now, _zone(settings), read_time(at)) if at else None
    if day is None:
        return []
    days = days_to_digest(now, kept.Told(database, user_id).days_of_digests())
    return [Notice("digest", day.isoformat(), line=" ".join(days))] if days else []


def _troubles(stores: Stores, failed_runs: FailedRuns, since: datetime) -> list[Notice]:
    notices = [
        Notice("failed_runs", run.run_id, line=run.words)
        for run in failed_runs(since)
        if run.ended_at > since
    ]
    notices += [
        Notice(
            "dead_letters",
            f"{row['dead_letter_id']} {row['first_seen_at']}",
            row["account"],
            line=f"{row['account']}: {row['stage']}",
        )
        for row in kept.new_dead_letters(stores.database, utc_text(since))
    ]
    return notices + [
        _of_connection(health)
        for health in Connections(stores).healths()
        if health.trouble_kind in NEEDS_A_PERSON
        and health.state == "active"
        and health.trouble_since is not None
        and from_utc_text(health.trouble_since) > since
    ]


def _of_connection(health: Health) -> Notice:
    line = f"{health.account}: {health.trouble_kind}"
    return Notice(
        "dead_tokens",
        f"{health.account} {health.trouble_kind} {health.trouble_since}",
        health.account,
        line=f"{line}: {health.repair}" if health.repair else line,
    )


# --- telling ---------------------------------------------------------------------------------


def anything_to_tell(stores: Stores, now: datetime) -> bool:
    """Whether a round would send something, or take something off the list."""
    return any(
        row["last_claimed_at"] <= utc_text(now - GAPS[row["kind"]])
        and not _is_quiet(Settings(stores.database, row["user_id"]), row["kind"], now)
        for row in kept.waiting(stores.database, now)
    )


def tell(
    stores: Stores,
    now: datetime,
    made_digest: Callable[[str, str], None] = lambda account, day: None,
    send: Send = send_by_child,
) -> int:
    """Tell everybody what waits for them and may go now; returns how many messages were taken.

    `made_digest`: called with the account and the day of a digest that had to be made. A fault
    with one person's message is logged, and keeps nobody else from being told.
    """
    waiting: dict[tuple[str, Kind], list[Mapping[str, Any]]] = defaultdict(list)
    for row in kept.waiting(stores.database, now):
        waiting[row["user_id"], cast(Kind, row["kind"])].append(row)
    taken = 0
    for (user_id, kind), rows in waiting.items():
        round_ = _Round(stores, now, user_id, kind, made_digest, send)
        try:
            taken += round_.tell(rows)
        except Exception:
            log.exception("a notification (%s) could not be put together", kind)
    return taken


def try_target(
    stores: Stores, user_id: str, target_id: str, now: datetime, send: Send = send_by_child
) -> str:
    """Send a test message to one of the user's targets; returns why it failed, empty if it did
    not. Raises `NotFound`."""
    target = Targets(stores.database, user_id).get(target_id, stores.keys)
    message = trial_message(target.name, public_url(stores.database))
    return _send(stores, target, message, now, send)


def _send(stores: Stores, target: Target, message: Message, now: datetime, send: Send) -> str:
    if target.url is None:
        trouble = KEY_MISSING
    else:
        trouble = send(target.url, message, private_allowed(stores.database))
    kept.note_result(stores.database, target.target_id, trouble, now)
    return trouble


@dataclass(frozen=True)
class _Round:
    """One person, one kind."""

    stores: Stores
    now: datetime
    user_id: str
    kind: Kind
    made_digest: Callable[[str, str], None]
    send: Send

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Claim, send, record; returns how many targets took the message."""
        database, now = self.stores.database, self.now
        settings = Settings(database, self.user_id)
        targets = self._targets(settings)
        if not targets:
            self._is_over(rows, "none of your targets is told of this")
            return 0
        if _is_quiet(settings, self.kind, now):
            return 0
        current: dict[tuple[str, str], Mapping[str, Any]] = {}
        if self.kind == "urgent":
            found = _urgent(database, self.user_id, settings, now)
            current = {(row["account"], row["conversation_id"]): row for row in found}
            gone = [row for row in rows if (row["account"], row["conversation_id"]) not in current]
            self._is_over(gone, "it was not urgent any more when it could be told")
        mine, claimed = kept.claim(database, self.user_id, self.kind, GAPS[self.kind], now)
        if not claimed:
            return 0
        try:
            message = self._message(claimed, current)
        except Exception as error:
            why = f"it could not be put together: {type(error).__name__}"
            kept.refused(database, mine, why, AGAIN_IN, TRIES, now)
            raise
        if message is None:  # what came between the look and the claim is over already
            kept.refused(database, mine, "it was not urgent any more", AGAIN_IN, 0, now)
            return 0
        troubles = {
            target.name: _send(self.stores, target, message, now, self.send) for target in targets
        }
        taken = sum(not trouble for trouble in troubles.values())
        if taken:
            kept.told(database, mine, datetime.now(UTC))
        else:
            why = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items())
            kept.refused(database, mine, why, AGAIN_IN, TRIES, now)
        return taken

    def _targets(self, settings: Settings) -> list[Target]:
        targets = kept.targets_of(self.stores, self.user_id)
        if self.kind in OPERATORS:
            people = kept.users_to_tell(self.stores.database)
            is_admin = any(p["user_id"] == self.user_id and p["is_admin"] for p in people)
            return [target for target in targets if target.operators and is_admin]
        named = settings.notify()
        return [target for target in targets if named is None or target.name in named]

    def _is_over(self, rows: Sequence[Mapping[str, Any]], why: str) -> None:
        kept.is_over(self.stores.database, [int(row["id"]) for row in rows], why, self.now)

    def _message(
        self,
        claimed: Sequence[Mapping[str, Any]],
        current: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> Message | None:
        url = public_url(self.stores.database)
        if self.kind == "urgent":
            keys = {(row["account"], row["conversation_id"]): None for row in claimed}
            rows = [current[key] for key in keys if key in current]
            return urgent_message(rows, url) if rows else None
        if self.kind == "digest":
            days = sorted({day for row in claimed for day in row["line"].split()})
            accounts = [one.account for one in Accounts(self.stores.database, self.user_id).all()]
            return digest_message(
                {day: [self._digest_of(account, day) for account in accounts] for day in days}, url
            )
        return trouble_message(self.kind, [row["line"] for row in claimed])

    def _digest_of(self, account: str, day: str) -> str:
        """The digest that is there, else one that is made now: the schedule's may come later."""
        objects = self.stores.lake.objects
        try:
            content, _ = objects.get(daily_digest.digest_key(account, day))
        except FileNotFoundError:
            made = daily_digest.materialise(self.stores, account, day)
            self.made_digest(account, day)
            return made.markdown
        return content.decode()


def _is_quiet(settings: Settings, kind: str, now: datetime) -> bool:
    """Whether the user wants to hear nothing now. The digest comes at the time that they chose."""
    if kind == "digest":
        return False
    quiet = read_quiet(settings.get("quiet_hours"), _zone(settings))
    return quiet is not None and quiet.holds(now)


def _zone(settings: Settings) -> ZoneInfo:
    return read_zone(settings.zone())
