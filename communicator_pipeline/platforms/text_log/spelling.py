"""The spellings of a line that chat programs use.

irssi: https://irssi.org/documentation/help/set/ (`log_timestamp`, `log_day_changed`), WeeChat:
https://weechat.org/files/doc/stable/weechat_user.en.html#logger, ZNC: the `log` module (read
2026-11).

    [2026-11-03 09:12:44] <maya> text      2026-11-03T09:12:44Z maya: text
    09:12 <@maya> text                     --- Day changed Tue Nov 03 2026
    09:12  * maya waves                    2026-11-03 09:12:44⇥maya⇥text
    09:12 -!- joe [j@host] has joined #x   [09:12:44] *** Joins: joe (j@host)
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import NamedTuple

_FULL = re.compile(
    r"\[?(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d(?::\d\d(?:[.,]\d{1,6})?)?)"
    r"(?P<zone> ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?(?P<rest>[ \t].*)?",
    re.DOTALL,
)
_SHORT = re.compile(r"\[?(?P<time>\d\d:\d\d(?::\d\d)?)\]?(?P<rest>[ \t].*)", re.DOTALL)
_HEADER = re.compile(
    r"--- (?:(?:Day changed) \w+ (?P<month>\w+) (?P<day>\d\d?)|"
    r"Log (?:opened|closed) \w+ (?P<month2>\w+) (?P<day2>\d\d?) [\d:]+) (?P<year>\d{4})"
)
_FILE_DATE = re.compile(r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"

_SAID = re.compile(r"<[~&@%+ !]?(?P<who>[^>\s][^>]{0,63})> ?(?P<text>.*)", re.DOTALL)
_ACTED = re.compile(r"\*[ \t]+(?P<who>[^\s*]{1,64}) (?P<text>.*)", re.DOTALL)
_NOTICED = re.compile(r"-(?P<who>[^\s!-][^\s-]{0,63})- (?P<text>.*)", re.DOTALL)
_SYSTEM = re.compile(r"(?:-!-|\*\*\*|-->|<--|--)[ \t]+(?P<text>.*)", re.DOTALL)
_TABBED = re.compile(r"[~&@%+]?(?P<who>[^\t]{1,64})\t(?P<text>.*)", re.DOTALL)
_COLON = re.compile(r"(?P<who>[^\s:<>*\-\[][^:<>\t]{0,63}): (?P<text>.*)", re.DOTALL)


class Said(NamedTuple):
    """What a line says behind its time."""

    kind: str  # 'message' or 'system'
    who: str
    text: str


class Clock:
    """Which moment a line's time means; the date may stand far above the line."""

    def __init__(self, day: date | None) -> None:
        self.day = day
        self._last = 0

    def header(self, line: str) -> bool:
        """Whether the line tells the date, or nothing (`--- Log closed`)."""
        match = _HEADER.match(line)
        if not match:
            return False
        month = (match["month"] or match["month2"])[:3].title()
        if month in _MONTHS.split():
            number = _MONTHS.split().index(month) + 1
            try:
                self.day = date(int(match["year"]), number, int(match["day"] or match["day2"]))
            except ValueError:
                return False
            self._last = 0
        return True

    def read(self, line: str) -> tuple[datetime, str] | None:
        """The line's time (in UTC where it names no zone) and what follows; None if it has none.

        Raises ValueError for a time that cannot be.
        """
        if match := _FULL.match(line):
            at = datetime.fromisoformat(f"{match['date']}T{match['time'].replace(',', '.')[:15]}")
            return at.replace(tzinfo=_zone(match["zone"] or "")), (match["rest"] or "")[1:]
        if not (match := _SHORT.match(line)):
            return None
        if self.day is None:
            raise ValueError(
                "the line has a time but no date: no line such as "
                "'--- Day changed Tue Nov 03 2026' stands before it"
            )
        hours, minutes, *seconds = (int(part) for part in match["time"].split(":"))
        second = hours * 3600 + minutes * 60 + sum(seconds)
        if second < self._last - 12 * 3600:  # past midnight, and nothing said so
            self.day += timedelta(days=1)
        self._last = second
        at = datetime(self.day.year, self.day.month, self.day.day, hours, minutes, sum(seconds))
        return at.replace(tzinfo=_zone("")), match["rest"][1:]


def understand(rest: str) -> Said | None:
    """What stands behind the time; None if it is no spelling that we know."""
    stripped = rest.lstrip(" ")
    if match := _SAID.match(stripped):
        return Said("message", match["who"].strip(), match["text"])
    if match := _SYSTEM.match(stripped):
        return Said("system", "", match["text"].replace("\t", " "))
    if match := _ACTED.match(stripped):
        return Said("message", match["who"], f"* {match['text']}")
    if match := _NOTICED.match(stripped):
        return Said("message", match["who"], match["text"])
    for spelling in (_TABBED, _COLON):
        if match := spelling.match(stripped):
            return Said("message", match["who"].strip(), match["text"])
    return None


def date_in(name: str) -> tuple[date | None, str]:
    """The date that a file's name tells, and the name without it."""
    for match in _FILE_DATE.finditer(name):
        try:
            day = date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            continue
        return day, (name[: match.start()] + name[match.end() :]).strip(" ._-")
    return None, name


def _zone(spelled: str) -> timezone:
    spelled = spelled.strip().replace(":", "")
    if spelled in ("", "Z", "UTC"):
        return UTC
    minutes = int(spelled[1:3]) * 60 + int(spelled[3:5])
    return timezone(timedelta(minutes=-minutes if spelled[0] == "-" else minutes))
