"""Records on their way into an account: landed in batches, the broken ones buried.

Belongs here: what imports, pulls and pushes have in common. Does not belong here: where the records
come from (`exports.py`, `pull.py`, `push.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from communicator_pipeline.platforms import Record
from communicator_pipeline.storage.accounts import Channel, Person, know_channels, know_people
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.lake import FIRST_DAY
from communicator_pipeline.storage.landing import Envelope, Landing

BATCH_ROWS = 25_000
BATCH_BYTES = 48 * 2**20  # of payload: with its Arrow and Parquet copies some 200 MB at the peak

CLOCKS_DIFFER = timedelta(minutes=10)
"""A message may be dated so far ahead of this machine's clock."""


@dataclass
class Counts:
    """What became of the records."""

    read: int = 0
    kept: int = 0  # new messages
    updated: int = 0  # new versions of known messages, deletions included
    skipped: int = 0  # known already
    dead_lettered: int = 0


class Intake:
    """What has been read and not yet landed, for one writer into one account.

    `prepare` may complete a batch of envelopes before it lands; `clean` takes secrets out of what
    is kept of a broken record.
    """

    def __init__(
        self,
        database: Database,
        landing: Landing,
        counts: Counts,
        stage: str,
        prepare: Callable[[list[Envelope]], list[Envelope]] = lambda envelopes: envelopes,
        clean: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.counts = counts
        self._database = database
        self._landing = landing
        self._stage = stage
        self._prepare = prepare
        self._clean = clean
        self._envelopes: list[Envelope] = []
        self._bytes = 0
        self._letters: list[DeadLetter] = []
        self._people: list[Person] = []
        self._channels: list[Channel] = []

    @property
    def is_full(self) -> bool:
        """Whether it is worth a flush at the next good moment."""
        return len(self._envelopes) >= BATCH_ROWS // 2 or self._bytes >= BATCH_BYTES // 2

    def take(self, record: Record) -> None:
        """Add a record; lands what has come together when it is too much for memory."""
        if isinstance(record, Envelope):
            if not FIRST_DAY <= record.day <= _last_day():
                self.take(_out_of_time(record, self._stage))
                return
            self.counts.read += 1
            self._envelopes.append(record)
            self._bytes += len(record.payload)
            if len(self._envelopes) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
                self.flush()
        elif isinstance(record, Person):
            self._people.append(record)
        elif isinstance(record, Channel):
            self._channels.append(record)
        else:
            self.counts.read += 1
            self.counts.dead_lettered += 1
            self.bury(record)
            if len(self._letters) >= 1_000:
                self.flush()

    def bury(self, letter: DeadLetter) -> None:
        """Add a letter that is no record of its own."""
        payload = None if letter.payload is None else self._clean(letter.payload)
        self._letters.append(replace(letter, reason=self._clean(letter.reason), payload=payload))

    def flush(self) -> None:
        """Land everything; durable when it returns."""
        know_people(self._database, self._landing.account, self._people)
        know_channels(self._database, self._landing.account, self._channels)
        bury(self._database, self._landing.account, self._letters)
        if self._envelopes:
            self._landing.refresh()  # others may have decided meanwhile on which day a message is
        kept, updated = self._landing.land(self._prepare(self._envelopes))
        self.counts.kept += kept - updated
        self.counts.updated += updated
        self.counts.skipped += len(self._envelopes) - kept
        self._envelopes, self._letters, self._people, self._channels = [], [], [], []
        self._bytes = 0


def _last_day() -> str:
    return (datetime.now(UTC) + CLOCKS_DIFFER).date().isoformat()


def _out_of_time(envelope: Envelope, stage: str) -> DeadLetter:
    when = "the future" if envelope.day > FIRST_DAY else f"before {FIRST_DAY}"
    return DeadLetter(
        stage,
        f"{envelope.origin}: {envelope.message_id}",
        f"the message is dated {envelope.day}, {when}, for which there is no partition: "
        "mend the time, or set COMMUNICATOR_FIRST_MONTH, and import again",
        envelope.payload.decode(errors="replace"),
    )
