"""The arithmetic of `benchmarks.capacity`: lines, slices, limits, prices, without measuring."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from benchmarks.capacity import ACCOUNTS, costs_measured, short
from benchmarks.capacity_arithmetic import (
    FIGURES,
    Costs,
    Curve,
    Line,
    Load,
    bill,
    checked,
    demand,
    fitted,
    met,
    slices,
)
from benchmarks.capacity_runs import Home, Lived, Run
from communicator_pipeline.wanted_runs import SLICE_DAYS


def straight(fixed: float, each: float) -> Curve:
    """Equal to a line at 10, 20 and 200 messages."""
    return Curve(tuple((m, fixed + each * m) for m in (10.0, 20.0, 200.0)))


COSTS = Costs(
    history_cpu=straight(0.1, 0.001),
    import_cpu=0.0001,
    again=1.0,
    live_cpu=Line(0.5, 0.001),
    landing_cpu=0.02,
    events=Line(50.0, 10.0),
    run_bytes=Line(100_000.0, 3_000.0),
    digest_events=12.0,
    digest_bytes=20_000.0,
    kept_whole_bytes=150_000.0,
    condensed_bytes=10_000.0,
    questions=straight(0.0, 0.5),
    asked_again=0.2,
    rows=straight(10.0, 2.0),
    database_bytes=straight(5_000.0, 1_000.0),
    landing_bytes=straight(500.0, 100.0),
    lake_bytes=straight(20_000.0, 100.0),
    lake_files=straight(5.0, 0.0),
    joined_bytes=straight(10_000.0, 100.0),
    joined_files=6.0,
    poll_cpu=0.004,
    partition_key_bytes=500.0,
    process_mb=300.0,
)
LOAD = Load(today=date(2026, 11, 29))


def test_a_line_goes_through_two_points_and_between_many() -> None:
    line = fitted([(10.0, 25.0), (100.0, 205.0)])
    assert (line.fixed, line.each) == pytest.approx((5.0, 2.0))
    assert fitted([(1.0, 4.0), (1.0, 6.0)]).at(9.0) == pytest.approx(5.0)
    assert fitted([(0.0, 1.0), (1.0, 0.0), (2.0, 5.0)]).at(1.0) == pytest.approx(2.0)


def test_a_curve_goes_through_its_points_and_on_as_between_the_nearest_two() -> None:
    curve = Curve(((10.0, 5.0), (40.0, 10.0), (400.0, 100.0)))
    assert [curve.at(m) for m in (10.0, 40.0, 400.0)] == pytest.approx([5.0, 10.0, 100.0])
    assert curve.at(20.0) == pytest.approx(5 * 2**0.5)  # four times as many make twice as much
    assert curve.at(2.5) == pytest.approx(2.5)
    assert curve.at(100.0) == pytest.approx(25.0)  # as much more as there are more
    assert curve.at(4_000.0) == pytest.approx(1_000.0)


def test_what_comes_in_several_runs_is_asked_again_and_never_more_than_there_is() -> None:
    assert COSTS.live_questions(20.0, 1) == pytest.approx(10.0)
    assert COSTS.live_questions(20.0, 4) == pytest.approx(10 * 1.15)
    much = replace(COSTS, questions=Curve(((10.0, 50.0),)))
    assert much.live_questions(10.0, 4) == 20.0


def test_history_is_cut_as_the_worker_cuts_it() -> None:
    made = slices(123, date(2026, 10, 29))  # back to 29 June
    assert made == [(2, 59), (2, 62), (1, 2)]
    assert sum(days for _, days in slices(3_650)) == 3_650
    assert all(days <= SLICE_DAYS for _, days in slices(3_650))


def test_every_figure_of_the_table_is_reckoned_and_grows_with_the_accounts() -> None:
    found = [demand(LOAD, COSTS, n) for n in ACCOUNTS]
    for figure in FIGURES:
        column = [one[figure.key] for one in found]
        assert column == sorted(column), figure.key
    assert {figure.key for figure in FIGURES} == set(found[0])


def test_a_day_of_a_thousand_accounts_by_hand() -> None:
    found = demand(Load(messages_a_day=20, runs_a_day=4, peak=2.0), COSTS, 1_000)
    # 12.5 messages in the day when a run ends, on average: 4 runs at 5, 10, 15 and 20.
    assert found["messages"] == 20_000
    assert found["runs"] == 4_000
    assert found["live_workers"] == pytest.approx(2 * 4_000 * (0.5125 + 0.02) / 86_400)
    assert found["conversations"] == pytest.approx(1_000 * 10 * 1.15)
    assert found["rows"] == pytest.approx(1_000 * 730 * 50)
    assert found["events"] == pytest.approx(1_000 * (4 * 60 + 3 * 12))
    assert found["asked"] == 0.0  # offline


def test_there_are_no_more_runs_than_messages() -> None:
    found = demand(Load(messages_a_day=2, runs_a_day=10), COSTS, 1)
    assert found["runs"] == 2


def test_a_limit_is_met_at_the_first_count_that_is_too_much() -> None:
    found = {one.limit.key: one for one in met(LOAD, COSTS)}
    # 249 months from 2006-03 to 2026-11, and the one ahead.
    assert found["partitions"].accounts == 100_000 // 250 + 1
    for key in ("live_workers", "rest_calls", "worker_bytes"):
        one = found[key]
        assert one.accounts is not None
        assert demand(LOAD, COSTS, one.accounts)[key] > one.limit.most
        assert demand(LOAD, COSTS, one.accounts - 1)[key] <= one.limit.most
    assert found["asked_a_minute"].accounts is None
    in_order = [one.accounts for one in met(LOAD, COSTS) if one.accounts is not None]
    assert in_order == sorted(in_order)


def test_a_model_meets_its_limit() -> None:
    with_model = Load(model="workers_ai", today=LOAD.today)
    found = {one.limit.key: one.accounts for one in met(with_model, COSTS)}
    # 200 messages in 10 runs: 100 questions and 18 % more; the busiest hour is four average ones.
    assert found["asked_a_minute"] == int(300 * 1_440 / 4 / 118) + 1


def test_what_is_free_is_not_paid() -> None:
    assert bill({("d1", "rows written"): 1_000_000}, {}) == 0.0  # 30 of 50 million
    assert bill({("d1", "rows written"): 2_000_000}, {}) == pytest.approx(10.0)
    assert bill({}, {("d1", "GB-months"): 25}) == pytest.approx(15.0)


def test_a_check_sets_predicted_beside_measured() -> None:
    home = Home(accounts=2, days=10, messages_a_day=10, pulls=2)
    one = Lived(
        months=1,
        days=22,
        messages=220,
        live_messages=20,
        made=[Run("backlog", 1, 10, 0, 1.0, 0.0, 60, 130_000) for _ in range(2)]
        + [Run("live", 1, 1, 5, 0.5, 0.0, 60, 103_000) for _ in range(4)],
        digest_events=24,
        rows=440,
        dagster_bytes=712_000,
    )
    found = {of.name: of for of in checked(COSTS, home, one)}
    assert found["runs"].ratio == 1.0
    assert found["Dagster's events"].predicted == 2 * (60 + 2 * 60 + 12)
    assert found["Dagster's events"].ratio == 1.0
    assert found["rows"].predicted == 22 * 30
    assert found["rows"].ratio == pytest.approx(1.5)
    assert not found["CPU s of the runs"].is_countable


def test_numbers_are_short() -> None:
    assert [short(n) for n in (0.0, 0.0123, 999.4, 1_000, 1_234_567, 999_999)] == [
        "0", "0.0123", "999", "1k", "1.23M", "1M",
    ]  # fmt: skip
    assert short(12_345, "B") == "12.3kB"


def test_what_was_measured_can_be_read() -> None:
    costs = costs_measured()
    for name in ("live_cpu", "history_cpu", "rows", "database_bytes", "run_bytes", "questions"):
        figure = getattr(costs, name)
        assert 0 < figure.at(10) < figure.at(20) < figure.at(1_000), name
    assert 0 <= costs.asked_again < 1
