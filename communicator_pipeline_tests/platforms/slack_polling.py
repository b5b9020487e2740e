"""Pulls Slack as the engine does, without stores: cursors in memory, records kept.

Belongs here: what the tests of Slack's live side share. Does not belong here: the workspace
(`slack_server.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from communicator_pipeline.platforms import live_side, platforms
from communicator_pipeline.platforms.protocol import (
    Chats,
    Client,
    Connection,
    Identity,
    PlatformError,
    PullRequest,
    Wait,
    Window,
)
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.reading import understood
from communicator_pipeline_tests.platforms.slack_server import SlackServer


def connection(slack: SlackServer, **values: str) -> Connection:
    """Logged in at the server, as `accounts add` does it."""
    live = live_side("slack")
    given = {f.name: slack.values.get(f.name, f.default or "") for f in live.fields}
    kept = live.login({**given, **values}, lambda asked: "")
    secret = {f.name for f in live.fields if f.secret} | (set(kept) - {f.name for f in live.fields})
    return Connection(
        "ana-acme",
        frozenset({slack.me}),
        {name: value for name, value in kept.items() if name not in secret},
        {name: value for name, value in kept.items() if name in secret},
    )


def client(slack: SlackServer, **values: str) -> Client:
    with live_side("slack").connect(connection(slack, **values)) as connected:
        return connected


def identity(slack: SlackServer, **values: str) -> Identity:
    return client(slack, **values).identity()


@dataclass
class Poll:
    """An account that is pulled again and again."""

    slack: SlackServer
    values: Mapping[str, str] = field(default_factory=dict)
    since: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(days=14))
    chats: Chats = field(default_factory=Chats)
    window: Window | None = None
    ahead: timedelta = timedelta(0)  # how far the account's clock is ahead
    cursors: dict[str, str] = field(default_factory=dict)
    waits: dict[str, datetime] = field(default_factory=dict)
    envelopes: list[Envelope] = field(default_factory=list)
    people: dict[str, Person] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    done: float | None = None
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection = connection(self.slack, **self.values)
        self.slack.calls.clear()

    def pull(self, most_pages: int | None = None) -> list[Envelope]:
        """One pull; what of it was new. `most_pages`: killed after so many."""
        self.notices = []
        request = PullRequest(
            datetime.now(UTC) + self.ahead,
            self.since,
            self.window,
            dict(self.cursors),
            self.chats,
            dict(self.waits),
        )
        fresh: list[Envelope] = []
        with live_side("slack").connect(self.connection) as connected:
            for number, page in enumerate(connected.pull(request)):
                if number == most_pages:
                    break
                for record in page.records:
                    self._take(record, fresh)
                self.cursors |= page.cursors
                self.cursors = {k: v for k, v in self.cursors.items() if v}
                self.notices += page.notices
                self.done = page.done if page.done is not None else self.done
        return fresh

    def try_pull(self, most_pages: int | None = None) -> PlatformError | None:
        """A pull that may fail; waits are kept as the engine keeps them."""
        try:
            self.pull(most_pages)
        except Wait as wait:
            self.waits[wait.scope] = wait.until
            return wait
        except PlatformError as error:
            return error
        return None

    def _take(self, record: Any, fresh: list[Envelope]) -> None:
        if isinstance(record, Envelope):
            key = (record.message_id, record.kind, record.digest)
            if key not in self.seen:
                self.seen.add(key)
                fresh.append(record)
                self.envelopes.append(record)
        elif isinstance(record, Person):
            self.people[record.person_id] = record
        elif isinstance(record, Channel):
            self.channels[record.channel_id] = record
        else:
            self.letters.append(record)

    def rows(self) -> list[dict[str, Any]]:
        """Every version, as `raw_messages` has them."""
        if not self.envelopes:
            return []
        rows, letters = understood(self.envelopes, platforms()["slack"])
        assert letters == []
        return rows

    def texts(self) -> dict[str, str]:
        """message_id → text of the latest version; deleted ones are left out."""
        return {
            row["message_id"]: row["text"]
            for row in self.rows()
            if row["latest"] and not row["deleted"]
        }
