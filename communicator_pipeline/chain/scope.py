"""Which days a run works on, and what it says about them afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from communicator_pipeline.storage.lake import AccountMonth, Manifest


@dataclass(frozen=True)
class Scope:
    """The partitions of a run and, if it was asked for less than all of them, the days."""

    partitions: tuple[AccountMonth, ...]
    days: frozenset[str] = frozenset()  # empty: every day with data

    def covers(self, account: str, day: str) -> bool:
        """Whether this run works on the day anyway: then nobody else needs to be told."""
        return AccountMonth(account, day[:7]) in self.partitions and self.wants(day)

    def wants(self, day: str) -> bool:
        return not self.days or day in self.days

    def chosen(self, days: Iterable[str]) -> list[str]:
        return sorted(day for day in days if self.wants(day))


@dataclass
class MonthReport:
    """What became of one partition: for the run's metadata, the command line and the tests."""

    partition: AccountMonth
    manifest: Manifest
    processed: list[str]  # days looked at
    changed: list[str]  # days whose content differs from before
    numbers: dict[str, float] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # of what → how many
    preview: list[dict[str, str]] = field(default_factory=list)  # text: not for everybody's eyes
