"""Quiet hours and the moment of the digest, by tables; days on which clocks change among them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from communicator_pipeline.notifying.when import (
    days_to_digest,
    digest_day,
    read_quiet,
    read_time,
    read_zone,
)

BERLIN, TOKYO, LORD_HOWE = (
    ZoneInfo(name) for name in ("Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe")
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-11-02T20:59", False),  # 21:59 in Berlin
        ("2026-11-02T21:00", True),
        ("2026-11-03T05:59", True),
        ("2026-11-03T06:00", False),
        ("2026-07-02T20:00", True),  # in summer an hour earlier
        ("2026-07-02T05:00", False),
        ("2026-03-29T00:59", True),  # the night in which an hour is left out
        ("2026-03-29T04:59", True),
        ("2026-03-29T05:00", False),
        ("2026-10-25T05:59", True),  # and the one with an hour twice
        ("2026-10-25T06:00", False),
    ],
)
def test_quiet_hours_are_those_of_the_users_clock(moment: str, quiet: bool) -> None:
    hours = read_quiet({"from": "22:00", "to": "07:00"}, BERLIN)
    assert hours is not None
    assert hours.holds(utc(moment)) is quiet


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-11-06T22:00", True),  # Friday
        ("2026-11-07T06:00", True),  # the morning after it
        ("2026-11-07T23:00", False),  # Saturday is not named
        ("2026-11-08T06:00", False),
    ],
)
def test_the_days_of_quiet_hours_are_those_on_which_they_begin(moment: str, quiet: bool) -> None:
    hours = read_quiet({"from": "22:00", "to": "07:00", "days": ["fri"]}, ZoneInfo("UTC"))
    assert hours is not None
    assert hours.holds(utc(moment)) is quiet


@pytest.mark.parametrize(
    "value",
    [
        {"from": "22:00"},
        {"from": "25:00", "to": "07:00"},
        {"from": "7", "to": "08:00"},
        {"from": "07:00", "to": "07:00"},
        {"from": "22:00", "to": "07:00", "days": []},
        {"from": "22:00", "to": "07:00", "days": ["someday"]},
        {"from": "22:00", "to": "07:00", "days": "mon"},
        {"from": "22:00", "to": "07:00", "zone": "UTC"},
    ],
)
def test_what_are_no_quiet_hours_is_said_in_words(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"quiet|no time of day"):
        read_quiet(value, BERLIN) or pytest.fail("taken")


def test_without_quiet_hours_it_is_never_quiet() -> None:
    assert read_quiet(None, BERLIN) is None


@pytest.mark.parametrize("name", ["", "Berlin", "../../etc/passwd", "/etc/localtime", "\0"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        read_zone(name)


@pytest.mark.parametrize(
    ("zone", "at", "moment", "day"),
    [
        (BERLIN, "08:00", "2026-11-03T06:59", None),
        (BERLIN, "08:00", "2026-11-03T07:00", "2026-11-03"),
        (BERLIN, "08:00", "2026-11-03T22:59", "2026-11-03"),  # missed: late on the same day
        (BERLIN, "08:00", "2026-11-03T23:00", None),  # and not on the next
        (BERLIN, "08:00", "2026-07-03T06:00", "2026-07-03"),
        (TOKYO, "08:00", "2026-11-02T23:00", "2026-11-03"),
        (BERLIN, "02:30", "2026-03-29T00:59", None),  # 01:59, then it is 03:00
        (BERLIN, "02:30", "2026-03-29T01:00", "2026-03-29"),
        (BERLIN, "02:30", "2026-10-25T00:30", "2026-10-25"),  # 02:30 for the first time
        (BERLIN, "02:30", "2026-10-25T01:30", "2026-10-25"),  # and the second: the same day
        (BERLIN, "00:00", "2026-11-02T23:00", "2026-11-03"),
    ],
)
def test_a_digest_is_due_from_its_time_to_midnight(
    zone: ZoneInfo, at: str, moment: str, day: str | None
) -> None:
    expected = date.fromisoformat(day) if day else None
    assert digest_day(utc(moment), zone, read_time(at)) == expected


@pytest.mark.parametrize("zone", [BERLIN, TOKYO, LORD_HOWE, ZoneInfo("America/St_Johns")])
@pytest.mark.parametrize("at", [time(0, 30), time(2, 30), time(8, 0), time(23, 59)])
def test_over_a_year_every_own_day_has_one_digest_and_every_day_is_in_one(
    zone: ZoneInfo, at: time
) -> None:
    told: dict[date, list[str]] = {}
    sent: list[str] = []
    moment = utc("2026-01-01T00:00")
    while moment < utc("2027-01-01T00:00"):
        day = digest_day(moment, zone, at)
        if day is not None and day not in told:
            told[day] = days_to_digest(moment, sent)
            sent += told[day]
        moment += timedelta(minutes=1 if at == time(23, 59) else 10)
    own_days = {date(2026, 1, 2) + timedelta(days=n) for n in range(363)}
    assert own_days <= set(told)
    assert len(sent) == len(set(sent))
    days = [date.fromisoformat(day) for day in sent]
    assert all(later - day == timedelta(days=1) for day, later in pairwise(days))


def test_after_a_long_absence_a_digest_has_the_last_three_days() -> None:
    assert days_to_digest(utc("2026-11-20T08:00"), ["2026-11-02"]) == [
        "2026-11-17",
        "2026-11-18",
        "2026-11-19",
    ]
