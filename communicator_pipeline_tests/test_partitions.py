"""Which days have a partition, and which had one."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from communicator_pipeline.partitions import (
    DIGEST_MONTHS_VARIABLE,
    account_days,
    digest_months,
    first_digest_day,
    is_past,
)


@pytest.mark.parametrize(
    ("today", "months", "first"),
    [
        ("2026-11-30", 3, "2026-08-01"),
        ("2026-12-01", 3, "2026-09-01"),
        ("2027-01-01", 1, "2026-12-01"),  # yesterday's digest has a partition
        ("2027-03-31", 3, "2026-12-01"),
        ("2027-12-31", 12, "2026-12-01"),
        ("2028-02-29", 240, "2008-02-01"),
    ],
)
def test_days_are_partitions_from_a_months_beginning(today: str, months: int, first: str) -> None:
    assert first_digest_day(date.fromisoformat(today), months) == first


def test_dagster_lists_those_days_and_no_others() -> None:
    """As the definitions were loaded, which may have been yesterday."""
    days = account_days.get_partitions_def_for_dimension("day")
    assert isinstance(days, dg.TimeWindowPartitionsDefinition)
    now = datetime.now(UTC)
    first = days.get_first_partition_key()
    assert first in {first_digest_day((now - timedelta(days=ago)).date()) for ago in (0, 1)}
    assert days.get_last_partition_key() in {f"{now:%F}", f"{datetime.now(UTC):%F}"}


def test_only_a_day_can_be_past() -> None:
    today = date(2026, 11, 30)
    assert is_past("ana|2026-07-31", today)
    assert is_past("2026|2026-07-31", today)
    assert not is_past("ana|2026-08-01", today)
    assert not is_past("ana|2026-11-30", today)
    assert not is_past("ana|2006-03", today)  # a month of the chain
    assert not is_past("ana", today)
    assert not is_past("2006-03-21", today)  # an account, though of a strange name


@pytest.mark.parametrize("wrong", ["0", "-1", "241", "90 days", "1.5", "³"])
def test_a_wrong_number_of_months_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(ValueError, match="a number of months, from 1 to 240"):
        digest_months({DIGEST_MONTHS_VARIABLE: wrong})


def test_the_number_of_months_is_a_setting() -> None:
    assert digest_months({}) == digest_months({DIGEST_MONTHS_VARIABLE: ""}) == 3
    assert digest_months({DIGEST_MONTHS_VARIABLE: "24"}) == 24
