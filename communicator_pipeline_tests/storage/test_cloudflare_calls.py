"""The budget of calls holds for threads and processes, and for any five minutes."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from communicator_pipeline.storage import cloudflare
from communicator_pipeline.storage.cloudflare import CallBudget, CallsUsedUp, retry_after


def test_no_more_calls_than_allowed_and_then_it_says_until_when(tmp_path: Path) -> None:
    budget = CallBudget(tmp_path / "calls.db", most=5)
    for _ in range(5):
        budget.take()
    with pytest.raises(CallsUsedUp, match=r"may not be asked again before \d\d:\d\d:\d\d UTC"):
        budget.take(patience=0)
    assert budget.used() == 5


def _take_many(path: str, until: float, most: int) -> list[float]:
    budget = CallBudget(Path(path), most)
    taken = []
    while time.time() < until:
        try:
            budget.take(patience=0.2)
        except CallsUsedUp:
            continue
        taken.append(time.time())
    return taken


def test_processes_and_threads_together_never_exceed_it_in_any_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudflare, "WINDOW", 0.5)
    monkeypatch.setattr(cloudflare, "MARGIN", 0.05)
    path, most, until = str(tmp_path / "calls.db"), 20, time.time() + 2.5
    CallBudget(Path(path), most).used()
    taken: list[float] = []
    context = multiprocessing.get_context("fork")  # so that the short window holds there too
    with context.Pool(2) as pool:
        away = [pool.apply_async(_take_many, (path, until, most)) for _ in range(2)]
        threads = [
            threading.Thread(target=lambda: taken.extend(_take_many(path, until, most)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in away:
            taken.extend(one.get())
        pool.close()
        pool.join()
    taken.sort()
    assert len(taken) > 3 * most  # the window did move on
    # What was counted at t may have been noted a moment later: hence the margin's half.
    for first, later in zip(taken, taken[most:], strict=False):
        assert later - first > 0.5


def test_a_block_holds_for_another_process_too(tmp_path: Path) -> None:
    CallBudget(tmp_path / "calls.db").block(100)
    with pytest.raises(CallsUsedUp):
        CallBudget(tmp_path / "calls.db").take(patience=0.1)


def test_a_shorter_block_does_not_end_a_longer_one(tmp_path: Path) -> None:
    budget = CallBudget(tmp_path / "calls.db")
    budget.block(100)
    before = budget.blocked_until()
    budget.block(1)
    assert budget.blocked_until() == before


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), (None, 300.0), ("", 300.0), ("soon", 300.0), ("-3", 0.0)]
)
def test_a_429_says_how_long_or_it_is_five_minutes(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds
