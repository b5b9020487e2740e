"""Whatever happens in whatever order: nothing arrives twice, nothing is lost.

Hypothesis chooses short histories and makes the failing ones shorter; seeds choose long ones. A
history that once failed is kept in `KEPT`. `make test` takes some seconds, `make test-faults` all
200 histories of 5,000 steps, under fresh seeds that it prints.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from communicator_pipeline.storage import outbox
from communicator_pipeline.storage.database import ConstraintFailed
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.delivery.faulty_outbox import (
    STEPS,
    FaultyOutbox,
    counted_ids,
    drive,
)
from communicator_pipeline_tests.delivery.world import PROMISES

KEPT = [
    ("key", 0, 600),  # an own echo that came before its delivery was known
    ("key", 1, 500),  # changed by hand while it was ambiguous: it waited for ever
    ("short key", 8, 400),  # sent again by a person who had seen the echo
    ("key and look-up", 1058051617, 1_300),  # late, it arrives when it does, not when one looks
    ("key and look-up", 1089564619, 2_500),  # taken for an attempt that proved not to have arrived
]
"""(promise, seed, steps) of histories that failed once."""


WEIGHTED = [step for step, weight in STEPS for _ in range(weight)] + [FaultyOutbox.minutes] * 16
"""Not in `STEPS`: the histories of `KEPT` would be others."""


class Histories(RuleBasedStateMachine):
    """Every step with every number, in any order."""

    outbox: FaultyOutbox
    promises: tuple[str, ...] = tuple(sorted(PROMISES))

    @initialize(choice=st.integers(0, 99))
    def begin(self, choice: int) -> None:
        promise = self.promises[choice % len(self.promises)]
        self.ids = ExitStack()
        self.ids.enter_context(counted_ids())
        self.outbox = FaultyOutbox(PROMISES[promise])
        self.outbox.approve(0)
        self.outbox.pass_by(2)

    # One rule for all steps: a step's weight is how often it stands in the list.
    @rule(step=st.sampled_from(WEIGHTED), number=st.integers(0, 99))
    def step(self, step: Callable[[FaultyOutbox, int], None], number: int) -> None:
        step(self.outbox, number)

    @invariant()
    def what_must_hold_holds(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.check()

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        try:
            self.outbox.check_end()
        finally:
            self.outbox.close()
            self.ids.close()


QUICK = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def test_no_short_history_sends_twice_or_loses_anything() -> None:
    run_state_machine_as_test(Histories, settings=QUICK)


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_no_long_history_sends_twice_or_loses_anything(promise: str) -> None:
    seed = secrets.randbelow(2**32)
    print(f"{promise}: seed {seed}")
    drive(PROMISES[promise], seed, 700)


@pytest.mark.parametrize(("promise", "seed", "steps"), KEPT)
def test_a_history_that_failed_once_holds_now(promise: str, seed: int, steps: int) -> None:
    drive(PROMISES[promise], seed, steps)


NO_FENCE = "delivery_id = ?1 AND state = ?2 AND ?3 IS NOT NULL"
"""The planted bug: a late write hits whatever the delivery has become since."""

TRIGGERS = ("deliveries_fence_grows", "deliveries_note_attempts")
"""They would notice the bug before anything arrives twice."""


def test_the_database_itself_notices_a_write_without_the_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "FENCED", NO_FENCE)
    with pytest.raises(ConstraintFailed, match="grows its fence"):
        drive_many("key")


def test_without_the_fence_a_history_fails_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FENCED", NO_FENCE)
    monkeypatch.setattr(FaultyOutbox, "triggers_off", TRIGGERS)
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"arrived|never arrived"):
        drive_many("look-up")
    assert time.monotonic() - began < 60


@pytest.mark.faults
def test_hypothesis_finds_the_missing_fence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Some seconds on a machine of its own, most of a minute on a busy one.
    monkeypatch.setattr(outbox, "FENCED", NO_FENCE)
    monkeypatch.setattr(Histories, "promises", ("look-up",))
    found = settings(QUICK, max_examples=5_000, stateful_step_count=60, phases=[Phase.generate])
    with pytest.raises(ConstraintFailed, match="grows its fence"):
        run_state_machine_as_test(Histories, settings=found)


def drive_many(promise: str) -> None:
    for seed in range(200):
        drive(PROMISES[promise], seed, 500)


@pytest.mark.faults
@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_two_hundred_histories_of_5000_steps_hold(
    promise: str, chunk: int, sizes: FaultSizes
) -> None:
    first = random.Random(f"{sizes.seed} {promise} {chunk}").randrange(2**32)
    last = first + sizes.count(10)
    print(f"{promise}: seeds {first} to {last - 1}")
    for seed in range(first, last):
        drive(PROMISES[promise], seed, 5_000)
