"""Text logs as an export: one channel per file, named as the file is.

A log has no ids: a message's is derived from its time, author and first line, and the how-manieth
it is of several that are alike. So the same log again, or the same one grown longer, changes
nothing. Times without a zone are taken as UTC. A line without a time goes on with the message
above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.instants import day_of, micros_of, moment
from communicator_pipeline.platforms.lines import LONGEST_LINE, read_lines
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.text_log.spelling import Clock, date_in, understand
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

_SUFFIX = re.compile(r"(?i)\.(?:log|txt|weechatlog)$")
_ADDRESSED = re.compile(r"@?([^\s:,]{1,64})[:,] ")
_MOST_ALIKE = 100_000  # lines within which two that are alike are told apart
_LONGEST_MESSAGE = 64_000  # characters; what goes on longer is no message
_MOST_LETTERS = 100  # a file of another kind should not bury an account in letters


def is_text_log(archive: Archive) -> bool:
    return bool(archive.names) and all(_SUFFIX.search(name) for name in archive.names)


class TextLog:
    """Logs, each a part."""

    me: frozenset[str] = frozenset()

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.title = f"text log {archive.path.name}"
        self.account_hint = date_in(_SUFFIX.sub("", archive.path.name))[1].strip("#&")

    def parts(self) -> Sequence[str]:
        return self.archive.names

    def records(self, part: str) -> Iterator[Record]:
        reading = _Reading(part)
        try:
            for number, line in read_lines(self.archive, part):
                if number == 1 and line is not None and b"\0" in line:
                    raise BrokenFile(f"{part} is not a text")
                yield from reading.line(number, line)
        except BrokenFile:
            yield from reading.end()
            raise
        yield from reading.end()
        if reading.is_foreign:
            raise BrokenFile(
                f"{part}: no line looks like a chat message. Lines should look like "
                "'[2026-11-03 09:12:44] <maya> text' or '09:12 <maya> text'"
            )


class _Reading:
    """What is known while one log is read."""

    def __init__(self, part: str) -> None:
        folder, _, name = part.rpartition("/")
        day, stem = date_in(_SUFFIX.sub("", name))
        self.part = part
        self.channel = stem or folder.rsplit("/", 1)[-1] or name
        self.kind: ChannelKind = "channel" if self.channel.startswith(("#", "&")) else "group"
        self._clock = Clock(day)
        self._pending: dict[str, Any] | None = None  # the message that may go on
        self._alike: dict[int, int] = {}
        self._people: dict[str, int] = {}  # name → newest time
        self._newest = 0
        self._moment, self._nth = 0, 0  # how many lines have told the same time
        self._lines = self._messages = self._letters = 0

    @property
    def is_foreign(self) -> bool:
        return self._lines > 0 and self._messages == 0

    def line(self, number: int, content: bytes | None) -> Iterator[Record]:
        where = f"{self.part}, line {number}"
        if content is None:
            why = f"the line is longer than {LONGEST_LINE // 2**20} MB"
            yield from self._letter(DeadLetter("import", where, why))
            return
        text = _decoded(content)
        if not text.strip() or self._clock.header(text):
            return
        self._lines += 1
        try:
            found = self._clock.read(text)
            said = understand(found[1]) if found else None
            if found and said:
                day_of(micros_of(found[0]))
            elif found:
                raise ValueError("nothing that we know follows the time: expected '<name> text'")
            elif self._pending is None:
                raise ValueError("the line has no time and no message stands before it")
        except (ValueError, OverflowError) as error:
            yield from self._letter(dead_letter(error, where, text))
            return
        if found is None or said is None:
            pending = self._pending
            if pending is not None and len(pending["text"]) < _LONGEST_MESSAGE:
                pending["text"] += "\n" + text
            return
        yield from self._finish()
        self._begin(found[0], said.kind, said.who, said.text)

    def end(self) -> Iterator[Record]:
        """The last message, and the names."""
        yield from self._finish()
        if self._letters > _MOST_LETTERS:
            why = f"{self._letters - _MOST_LETTERS:,} more lines could not be understood"
            yield DeadLetter("import", self.part, why)
        for name, newest in self._people.items():
            yield Person(name, name, moment(newest))
        if self._messages:
            yield Channel(self.channel, self.channel, self.kind, moment(self._newest))

    def _begin(self, at: datetime, kind: str, who: str, text: str) -> None:
        micros = micros_of(at)
        alike = xxhash.xxh3_64_intdigest(f"{micros}\0{kind}\0{who}\0{text}".encode())
        number = self._alike.pop(alike, 0) + 1
        self._alike[alike] = number
        if len(self._alike) > _MOST_ALIKE:
            del self._alike[next(iter(self._alike))]
        native = f"{micros}\0{kind}\0{who}\0{text}\0{number}".encode()
        # Logs tell minutes or seconds: within one, a message's place in the log is its order.
        self._nth = self._nth + 1 if micros == self._moment else 0
        self._moment = micros
        self._pending = {
            "id": xxhash.xxh3_128_hexdigest(native)[:24],
            "sent_at": micros + self._nth,
            "kind": kind,
            "author": who,
            "text": text,
        }
        addressed = _ADDRESSED.match(text)
        if addressed and addressed[1] != who and addressed[1] in self._people:
            self._pending["mentions"] = [addressed[1]]
        self._newest = max(self._newest, micros)
        if who:
            self._people[who] = max(micros, self._people.get(who, 0))

    def _finish(self) -> Iterator[Record]:
        if self._pending is None:
            return
        item, self._pending = self._pending, None
        self._messages += 1
        yield Envelope(
            day_of(item["sent_at"]),
            f"{self.channel}:{item['id']}",
            self.channel,
            self.kind,
            "message",
            item["sent_at"],
            xxhash.xxh3_64_intdigest(item["text"].encode()),
            orjson.dumps(item),
            None,
            self.part,
        )

    def _letter(self, letter: DeadLetter) -> Iterator[DeadLetter]:
        self._letters += 1
        if self._letters <= _MOST_LETTERS:
            yield letter


def _decoded(line: bytes) -> str:
    """UTF-8, or what old clients wrote."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
