"""Reads a demo script: who, where, which conversation, which words.

Belongs here: the notation of `script/*.txt`. Does not belong here: how a platform spells an
export (`slack.py`, `telegram.py`, `x.py`).

    workspace T05HARB0R1 harborbikes [old]                    Slack's; `old` is the older form
    owner ana
    person maya U05MAYA0L2Q | Maya Lindqvist | Operations     key, platform id, details
    channel ops C07HB0PS4QA channel | purpose | ana maya      key, platform id, kind
    ## ops | team channel                                     messages of ops; their style
    ~ frames-delay | request | done | thread                  conversation, category, state, style
    -- 2026-10-26                                             a day
    08:47 maya frames-delay #k >r !flag=x: words              time, who, conversation: words
      more words                                              another line of the same message
      + react eyes priya                                      a note on the message above

The state is `open` when the owner still owes an answer at the end. `#k` names a message and `>k`
answers it. A `!flag` is the platform's business, but for `!album`: sent with the one before.
Conversation `-` marks a record that is broken on purpose; `system` one that the platform wrote.
Within a minute messages keep their order; the seconds are made from a digest, so that they look
like life and stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from pathlib import Path

SCRIPTS = Path(__file__).parent / "script"
MEDIA = Path(__file__).parent / "media"

BROKEN = "-"
SYSTEM = "system"

_MESSAGE = re.compile(r"(\d\d:\d\d) (\S+) (\S+?)((?: [#>!]\S+)*):(?: (.*))?")


@dataclass(slots=True, frozen=True)
class Person:
    key: str
    id: str
    role: str  # person, guest or bot
    details: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.details[0] if self.details else ""


@dataclass(slots=True, frozen=True)
class Channel:
    key: str
    id: str
    kind: str
    about: str
    members: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Conversation:
    label: str
    category: str
    needs_reply: bool
    style: str


@dataclass(slots=True)
class Line:
    """One message of the script."""

    channel: str
    at: datetime
    who: str
    conversation: str
    text: str
    name: str | None = None
    answers: str | None = None
    flags: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        return self.conversation == BROKEN

    @property
    def moment(self) -> int:
        """Seconds since 1970, UTC."""
        return int((self.at - datetime(1970, 1, 1)).total_seconds())

    def note(self, key: str) -> str | None:
        return next((value for k, value in self.notes if k == key), None)

    def all_notes(self, key: str) -> list[str]:
        return [value for k, value in self.notes if k == key]

    def edit(self) -> tuple[int, str | None] | None:
        """When the message was edited, in seconds since 1970, and its new text if it has one."""
        value = self.note("edit")
        if value is None:
            return None
        clock, _, text = value.partition(" ")
        hour, minute = clock.split(":")
        at = self.at.replace(hour=int(hour), minute=int(minute))
        return int((at - datetime(1970, 1, 1)).total_seconds()), text or None


@dataclass(slots=True)
class Script:
    account: str
    owner: str = ""
    workspace: tuple[str, ...] = ()
    people: dict[str, Person] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def me(self) -> Person:
        return self.people[self.owner]

    def of(self, channel: str) -> list[Line]:
        return [line for line in self.lines if line.channel == channel]

    def named(self, channel: str) -> dict[str, Line]:
        return {line.name: line for line in self.of(channel) if line.name is not None}

    def conversation(self, line: Line) -> Conversation:
        """A system line belongs to the conversation of its channel's system lines."""
        if line.conversation == SYSTEM:
            return Conversation(f"{line.channel}-system", "fyi", False, SYSTEM)
        return self.conversations[line.conversation]


def number(*parts: object, below: int) -> int:
    """A number that looks like chance and is the same on every run."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % below


def load(account: str) -> Script:
    """The script of one account, in order of time."""
    script = Script(account)
    channel, style, day = "", "", ""
    for where, row in _rows(account):
        try:
            if row.startswith("## "):
                channel, style = _split(row[3:])
                script.channels[channel]  # a typing error ends here
            elif row.startswith("~ "):
                _declare(script, _split(row[2:]), style)
            elif row.startswith("-- "):
                day = row[3:]
            elif row.startswith("  + "):
                key, _, value = row[4:].partition(" ")
                script.lines[-1].notes.append((key, value))
            elif row.startswith("  "):
                script.lines[-1].text += "\n" + row[2:]
            elif row[0].isdigit():
                script.lines.append(_message(script, channel, day, row))
            else:
                _header(script, row)
        except (KeyError, ValueError, IndexError) as wrong:
            raise ValueError(f"{account}.txt, row {where}: {row!r}: {wrong!r}") from wrong
    _set_seconds(script)
    return script


def _rows(account: str) -> Iterator[tuple[int, str]]:
    rows = (SCRIPTS / f"{account}.txt").read_text("utf-8").splitlines()
    for where, row in enumerate(rows, start=1):
        if row.strip() and not row.startswith("# "):
            yield where, row.rstrip()


def _split(row: str) -> list[str]:
    return [part.strip() for part in row.split("|")]


def _header(script: Script, row: str) -> None:
    first, *details = _split(row)
    word, *values = first.split()
    if word == "owner":
        script.owner = values[0]
    elif word == "workspace":
        script.workspace = tuple(values)
    elif word == "channel":
        (key, native, kind), (about, members) = values, details
        script.channels[key] = Channel(key, native, kind, about, tuple(members.split()))
    elif word in ("person", "guest", "bot"):
        key, native, *handle = values
        script.people[key] = Person(key, native, word, (*details, *handle))
    else:
        raise ValueError(f"no such word: {word}")


def _declare(script: Script, parts: Sequence[str], style: str) -> None:
    label, category, state, *own_style = parts
    if label in script.conversations:
        raise ValueError(f"{label} is declared twice")
    if state not in ("open", "done"):
        raise ValueError(f"{state} is neither open nor done")
    own = own_style[0] if own_style else style
    script.conversations[label] = Conversation(label, category, state == "open", own)


def _message(script: Script, channel: str, day: str, row: str) -> Line:
    match = _MESSAGE.fullmatch(row)
    if match is None:
        raise ValueError("not a message")
    clock, who, conversation, marks, text = match.groups()
    if conversation not in (BROKEN, SYSTEM):
        script.conversations[conversation]
    script.people[who]
    at = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M")
    line = Line(channel, at, who, conversation, (text or "").replace("\\n", "\n"))
    for mark in marks.split():
        if mark[0] == "#":
            line.name = mark[1:]
        elif mark[0] == ">":
            line.answers = mark[1:]
        else:
            flag, _, value = mark[1:].partition("=")
            line.flags[flag] = value
    return line


def _set_seconds(script: Script) -> None:
    done: list[Line] = []
    for key in script.channels:
        lines = script.of(key)
        if lines != sorted(lines, key=lambda line: line.at):
            raise ValueError(f"{script.account}: {key} is not in order of time")
        for _, minute in groupby(lines, key=lambda line: line.at):
            same = list(minute)
            room = 60 // len(same)
            for place, line in enumerate(same):
                second = place * room + number(script.account, key, line.text, below=room)
                line.at += timedelta(seconds=second)
                if "album" in line.flags:
                    line.at = done[-1].at
                done.append(line)
    script.lines = sorted(done, key=lambda line: line.at)
