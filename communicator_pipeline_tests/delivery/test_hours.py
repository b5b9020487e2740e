"""Replies go out in a user's own hours, in their own zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from communicator_pipeline.delivery.hours import read_hours

BERLIN = {"zone": "Europe/Berlin", "from": "08:00", "to": "18:00", "days": ["mon", "tue", "fri"]}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_within_the_hours_it_goes_at_once() -> None:
    hours = read_hours(BERLIN)
    assert hours is not None
    assert hours.next_within(at("2026-11-02 09:00")) == at("2026-11-02 09:00")


@pytest.mark.parametrize(
    ("moment", "goes"),
    [
        ("2026-11-02 05:00", "2026-11-02 07:00"),  # Monday, before
        ("2026-11-02 17:00", "2026-11-03 07:00"),  # the end is not included
        ("2026-11-03 20:00", "2026-11-06 07:00"),  # Wednesday and Thursday are off
        ("2026-10-23 17:00", "2026-10-26 07:00"),  # over the end of summer time
        ("2026-10-23 10:00", "2026-10-23 10:00"),
    ],
)
def test_outside_them_it_waits_for_the_next_opening(moment: str, goes: str) -> None:
    hours = read_hours(BERLIN)
    assert hours is not None
    assert hours.next_within(at(moment)) == at(goes)


def test_hours_may_reach_over_midnight() -> None:
    hours = read_hours({"zone": "UTC", "from": "22:00", "to": "02:00", "days": ["mon"]})
    assert hours is not None
    assert hours.holds(at("2026-11-02 23:00"))
    assert hours.holds(at("2026-11-03 01:00"))
    assert not hours.holds(at("2026-11-02 01:00"))
    assert hours.next_within(at("2026-11-03 03:00")) == at("2026-11-09 22:00")


@pytest.mark.parametrize(
    "value",
    [
        {"zone": "Nowhere/At_All", "from": "08:00", "to": "18:00"},
        {"zone": "UTC", "from": "8", "to": "x"},
        {"zone": "UTC", "from": "08:00"},
        {"zone": "UTC", "from": "08:00", "to": "18:00", "days": ["someday"]},
        {"zone": "UTC", "from": "08:00", "to": "08:00"},
        {"zone": "UTC", "from": "08:00", "to": "18:00", "days": []},
    ],
)
def test_what_cannot_be_understood_is_refused_in_words(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="sending_hours"):
        read_hours(value)


def test_no_setting_means_at_any_time() -> None:
    assert read_hours(None) is None
