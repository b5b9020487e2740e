"""What so many accounts need, and which limit is met first: pure, so that a test can hold it.

Belongs here: fitting measured figures, the formulas, the limits with what to turn then. Does not
belong here: measuring (`capacity_runs.py`), the command (`capacity.py`).

Measured figures are of small installations; everything for many accounts is as many times that of
one account. What no measurement here can give is a constant below, with its source.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from benchmarks.capacity_runs import Home, Lived, Run
from communicator_pipeline.ingestion.poll import AT_ONCE
from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.language_model.prices import price_of
from communicator_pipeline.storage.cloudflare import MOST_CALLS, WINDOW
from communicator_pipeline.storage.cloudflare_prices import DAYS, SUBSCRIPTION_USD, billed
from communicator_pipeline.storage.lake import JOIN_AFTER, JOIN_AT_ONCE, months_between
from communicator_pipeline.storage.metering import Used
from communicator_pipeline.storage.work import DirtyDay
from communicator_pipeline.wanted_runs import SLICE_DAYS, wanted_runs

DAY = 86_400.0  # seconds
YEAR = 365  # days
LONGEST_MONTH = 31
GB = 1e9

ADVISED_PARTITIONS = 100_000
"""Of an asset, the product of both dimensions counts:
https://docs.dagster.io/concepts/partitions-schedules-sensors/partitioning-ops, read 2026-11. Above
it the UI is slow; nothing breaks at once."""

STEPS = 6
"""Of a run of the chain: raw_messages, attachments, conversations, analyses, drafted_replies,
inbox. A materialisation for each, and month."""

LAUNCHED_A_DAY = 3
"""Runs that Dagster launches for every account and day: digest, learning, and at Cloudflare the
usage (`schedules.py`)."""

LAUNCHED_CPU_SECONDS = 5.0
"""Of a run that Dagster launches, a process that imports everything: 4 to 6 measured, Dagster 1.13
on this machine."""

LAUNCHED_SECONDS = 5.0
"""How long it has its place in the run queue, on an idle machine: as long."""

PLACES = 2
"""`max_concurrent_runs` in dagster.yaml."""

LAUNCHES_A_SECOND = 1.0
"""Dagster's daemon starts no more, whatever the places (measured, Dagster 1.13)."""

DIGEST_HOURS = 1.0
"""Digests are asked for at 05:00 UTC: so long afterwards everybody wants to have theirs."""

LEARNING_EARLIER_HOURS = 0.25
"""As many runs of `learn` are asked for at 04:45, and are in the queue before them."""

HOUSEKEEPING_CPU_SECONDS = 0.05
"""A night's, of an account: 0.4 to 0.5 s for ten of them (`benchmarks.year`)."""

LOOSE_DAYS = JOIN_AFTER.days + JOIN_AT_ONCE / 2
"""Days whose files are not joined yet, on average."""

LANDING_INDEX_BYTES = 20
"""Of each message, in the memory of the process that lands pushes (`worker.py`)."""

POLL_SECONDS = 0.2
"""An answer of a platform: assumed. With it a worker's places give so many polls a second."""

# At Cloudflare: `benchmarks.cloudflare`, 200 messages in 10 runs, and 10,000 in one (docs/cost.md).
D1_CALLS_OF_RUN = 68.0
D1_WRITTEN_OF_MESSAGE = 8.574
"""A message that is published; a live run publishes all of its day. What a run writes besides is
reckoned from both: 1,078 rows with 110 messages on average."""
D1_WRITTEN_OF_RUN = 1_078 - 110 * D1_WRITTEN_OF_MESSAGE
D1_READ_OF_RUN = 109.23 * 20
"""A live run, whatever the day holds: 109,230 rows per 1,000 messages, 20 messages in each run."""
R2_A_OF_RUN = 38.0
R2_B_OF_RUN = 45.0
QUEUE_OPERATIONS = 3.0
"""A push is written, read and deleted (docs/cost.md)."""
WAITING_CALLS_A_SECOND = 6.0
"""A worker that waits looks for six things, every second by the edge Worker, every ten by the REST
API (docs/cost.md)."""
REST_LOOKS_EVERY = 10.0  # seconds
QUEUE_BATCH = 100  # pushes that one call pulls; another one acknowledges them
D1_BYTES = 10e9
"""Of a database: https://developers.cloudflare.com/d1/platform/limits/, read 2026-11."""

MODEL = ModelConfig(
    kind="workers_ai",
    model="@cf/meta/llama-3.3-70b-instruct-fp8-fast",
    base_url="https://api.cloudflare.com",
)
TOKENS_OF_QUESTION = 950
"""`benchmarks.model`, short conversations; nearly all of it is the prompt."""
OF_THEM_ANSWER = 100
"""Assumed, for the price alone."""

PUSHES_A_SECOND = 1_786.0
"""Of one gateway on two cores (`benchmarks.push`)."""


@dataclass(frozen=True)
class Line:
    """A figure that grows evenly with another one."""

    fixed: float
    each: float

    def at(self, x: float) -> float:
        return self.fixed + self.each * x


def fitted(points: Iterable[tuple[float, float]]) -> Line:
    """The line nearest to the points, by least squares; level if they have one place."""
    found = list(points)
    mean_x = sum(x for x, _ in found) / len(found)
    mean_y = sum(y for _, y in found) / len(found)
    spread = sum((x - mean_x) ** 2 for x, _ in found)
    each = sum((x - mean_x) * (y - mean_y) for x, y in found) / spread if spread else 0.0
    return Line(mean_y - each * mean_x, each)


@dataclass(frozen=True)
class Curve:
    """A figure of a day that grows with its messages, but not evenly: twice as many messages are
    fewer than twice as many conversations. Straight between the measured points if both are taken
    by their logarithms, and beyond the last ones on as between the nearest two."""

    points: tuple[tuple[float, float], ...]  # (messages, figure), by messages; all above 0

    def at(self, x: float) -> float:
        if len(self.points) == 1:
            return self.points[0][1]
        place = bisect([messages for messages, _ in self.points[1:-1]], x)
        (low, first), (high, last) = self.points[place : place + 2]
        return first * math.pow(x / low, math.log(last / first) / math.log(high / low))


@dataclass(frozen=True)
class Costs:
    """What things cost, as measured. CPU in seconds, all else in pieces and bytes."""

    history_cpu: Curve  # a day of history, by its messages
    import_cpu: float  # a message
    again: float  # runs for each boundary between two slices
    live_cpu: Line  # a live run, by the messages that its day holds
    landing_cpu: float  # a pull or push that lands
    events: Line  # a run of the chain, by months
    run_bytes: Line  # the same in Dagster's records, by days
    digest_events: float
    digest_bytes: float
    kept_whole_bytes: float  # of the last runs of the chain and of a digest, which stay whole
    condensed_bytes: float  # of a materialisation whose run is gone
    questions: Curve  # of a day that is made at once, by its messages
    asked_again: float  # the share that a live day asks more, with many runs
    rows: Curve  # of a day, by its messages; so all that follow
    database_bytes: Curve
    landing_bytes: Curve
    lake_bytes: Curve
    lake_files: Curve
    joined_bytes: Curve
    joined_files: float  # of an account and month
    poll_cpu: float
    partition_key_bytes: float
    process_mb: float

    def live_questions(self, messages: float, runs: float) -> float:
        """Of a day that comes in so many runs: a conversation that goes on from one run to the
        next is read anew. At most each message is a conversation, and answered."""
        again = 1 + self.asked_again * (1 - 1 / runs)
        return min(self.questions.at(messages) * again, 2 * messages)


@dataclass(frozen=True)
class Load:
    """What every account brings, and what there is for it."""

    messages_a_day: float = 200.0
    runs_a_day: float = 10.0
    backlog_years: float = 1.0
    years_of_use: float = 1.0  # kept on top of the history
    cadence: float = 60.0  # seconds between two polls of an account
    peak: float = 4.0  # the busiest hour, of an average one: assumed
    model: str = "offline"
    cores: float = 8
    memory_gb: float = 16.0
    disk_gb: float = 200.0
    first_month: str = "2006-03"
    digest_months: int = 3
    today: date = date(2026, 11, 29)

    @property
    def runs(self) -> float:
        """Live runs of a day: none is without a message."""
        return min(self.runs_a_day, self.messages_a_day)

    @property
    def in_day(self) -> float:
        """Messages that its day holds when a live run ends, on average."""
        return self.messages_a_day * (self.runs + 1) / (2 * self.runs) if self.runs else 0.0

    @property
    def days_kept(self) -> float:
        return (self.backlog_years + self.years_of_use) * YEAR

    @property
    def months(self) -> int:
        """Partitions of an account by month; one month ahead."""
        return len(months_between(self.first_month, self.today.isoformat()[:7])) + 1

    @property
    def digest_days(self) -> int:
        """Partitions of an account by day, when there are most."""
        return (self.digest_months + 1) * LONGEST_MONTH


def costs_of(measurements: Mapping[str, Any]) -> Costs:
    """Fit what `capacity_runs.measure` found."""
    found = [(Home(**one["home"]), _lived(one["lived"])) for one in measurements["homes"]]

    def by_messages(figure: Callable[[Home, Lived], float]) -> Curve:
        return Curve(
            tuple(sorted((one.messages / one.days, figure(home, one)) for home, one in found))
        )

    def of_day(name: str) -> Curve:
        return by_messages(lambda _, one: getattr(one, name) / one.days)

    def of_history(figure: Callable[[Lived], float]) -> Curve:
        return by_messages(lambda home, one: figure(one) / (one.days - home.accounts))

    every = [run for _, one in found for run in one.made]
    live = [run for run in every if run.messages]
    planned = [len(slices(one.days // home.accounts)) * home.accounts for home, one in found]
    boundaries = sum(
        slices_ - home.accounts for slices_, (home, _) in zip(planned, found, strict=True)
    )
    run_bytes = fitted((run.days, run.bytes) for run in every)
    digests = sum(home.accounts for home, _ in found)
    digest_bytes = sum(one.digest_bytes for _, one in found) / digests
    questions = of_history(lambda one: one.questions)
    at_once = [
        home.accounts * questions.at(one.live_messages / home.accounts) for home, one in found
    ]
    more = sum(one.live_questions - n for n, (_, one) in zip(at_once, found, strict=True))
    runs_after_the_first = sum(
        n * (1 - 1 / home.pulls) for n, (home, _) in zip(at_once, found, strict=True)
    )
    return Costs(
        history_cpu=of_history(
            lambda one: sum(run.cpu_seconds for run in one.made if not run.messages)
        ),
        import_cpu=sum(one.import_cpu_seconds for _, one in found)
        / sum(one.messages - one.live_messages for _, one in found),
        again=(len(every) - len(live) - sum(planned)) / boundaries,
        live_cpu=fitted((run.messages, run.cpu_seconds) for run in live),
        landing_cpu=sum(run.landing_cpu_seconds for run in live) / len(live),
        events=fitted((run.months, run.events) for run in every),
        run_bytes=run_bytes,
        digest_events=sum(one.digest_events for _, one in found) / digests,
        digest_bytes=digest_bytes,
        kept_whole_bytes=sum(one.kept_bytes - one.condensed_bytes for _, one in found) / len(found),
        condensed_bytes=sum(one.condensed_bytes for _, one in found)
        / sum(one.condensed_events for _, one in found),
        questions=questions,
        asked_again=more / runs_after_the_first,
        rows=of_day("rows"),
        database_bytes=of_day("database_bytes"),
        landing_bytes=of_day("landing_bytes"),
        lake_bytes=of_day("lake_bytes"),
        lake_files=of_day("lake_files"),
        joined_bytes=of_day("joined_bytes"),
        joined_files=sum(one.joined_files for _, one in found)
        / sum(one.months * home.accounts for home, one in found),
        poll_cpu=measurements["poll_cpu_seconds"],
        partition_key_bytes=measurements["partition_key_bytes"],
        process_mb=max(one.peak_mb for _, one in found),
    )


def _lived(given: Mapping[str, Any]) -> Lived:
    return Lived(**{**given, "made": [Run(**run) for run in given["made"]]})


def slices(days: int, last: date = date(2026, 10, 29)) -> list[tuple[int, int]]:
    """(months, days) of each run in which a history of so many days is worked off: by the rule of
    the product itself (`wanted_runs.py`)."""
    left = [
        DirtyDay("one", (last - timedelta(days=number)).isoformat(), 1, "", "")
        for number in range(days)
    ]
    made = []
    while left:
        # Long over: all of it is backlog.
        run = wanted_runs(left, last + timedelta(days=YEAR), SLICE_DAYS)[-1]
        done = {day.day for day in run.days}
        made.append((len({day[:7] for day in done}), len(done)))
        left = [day for day in left if day.day not in done]
    return made


@dataclass(frozen=True)
class Predicted:
    """A figure beside the measured one. CPU depends on what else the machine does."""

    name: str
    predicted: float
    measured: float
    is_countable: bool = True

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured if self.measured else math.inf


def checked(costs: Costs, home: Home, one: Lived) -> list[Predicted]:
    """What the formulas say of a small installation, and what it was."""
    accounts, days = home.accounts, one.days / home.accounts
    a_day = one.messages / one.days
    history = slices(home.days)
    again = costs.again * (len(history) - 1)
    in_day = one.live_messages / accounts * (home.pulls + 1) / (2 * home.pulls)
    events = (
        sum(costs.events.at(months) for months, _ in history)
        + (again + home.pulls) * costs.events.at(1)
        + costs.digest_events
    )
    size = (
        sum(costs.run_bytes.at(length) for _, length in history)
        + (again + home.pulls) * costs.run_bytes.at(1)
        + costs.digest_bytes
    )
    # The last run of the chain and the last digest stay whole, with what they hold.
    months, digests = STEPS * (one.months * accounts - 1), accounts - 1
    cpu = (days - 1) * costs.history_cpu.at(a_day) + home.pulls * costs.live_cpu.at(in_day)
    measured_cpu = sum(run.cpu_seconds for run in one.made)
    return [
        Predicted("runs", accounts * (len(history) + again + home.pulls), len(one.made)),
        Predicted(
            "Dagster's events",
            accounts * events,
            sum(run.events for run in one.made) + one.digest_events,
        ),
        Predicted("Dagster's bytes", accounts * size, one.dagster_bytes),
        Predicted(
            "events after pruning",
            months + digests + costs.events.at(1) + costs.digest_events,
            one.kept_events,
        ),
        Predicted(
            "bytes after pruning",
            (months + digests) * costs.condensed_bytes + costs.kept_whole_bytes,
            one.kept_bytes,
        ),
        Predicted("rows", one.days * costs.rows.at(a_day), one.rows),
        Predicted("database bytes", one.days * costs.database_bytes.at(a_day), one.database_bytes),
        Predicted("landing bytes", one.days * costs.landing_bytes.at(a_day), one.landing_bytes),
        Predicted("lake files", one.days * costs.lake_files.at(a_day), one.lake_files),
        Predicted("lake bytes", one.days * costs.lake_bytes.at(a_day), one.lake_bytes),
        Predicted(
            "lake files, joined", accounts * one.months * costs.joined_files, one.joined_files
        ),
        Predicted("lake bytes, joined", one.days * costs.joined_bytes.at(a_day), one.joined_bytes),
        Predicted(
            "questions, history",
            (one.days - accounts) * costs.questions.at(a_day),
            one.questions,
        ),
        Predicted(
            "questions, live",
            accounts * costs.live_questions(one.live_messages / accounts, home.pulls),
            one.live_questions,
        ),
        Predicted("CPU s of the runs", accounts * cpu, measured_cpu, False),
    ]


@dataclass(frozen=True)
class Figure:
    """A row of the table."""

    key: str
    name: str
    unit: str  # "": a count; "B": bytes; "s": seconds; "$"
    group: str


A_DAY, KEPT, MACHINES, CLOUDFLARE = "a day", "kept", "machines", "at Cloudflare"

FIGURES = (
    Figure("messages", "messages", "", A_DAY),
    Figure("conversations", "conversations read anew, drafts made", "", A_DAY),
    Figure("polls", "polls a second", "", A_DAY),
    Figure("runs", "live runs", "", A_DAY),
    Figure("launched", "runs that Dagster launches", "", A_DAY),
    Figure("steps", "steps", "", A_DAY),
    Figure("events", "Dagster's events", "", A_DAY),
    Figure("run_bytes", "Dagster's bytes, before pruning", "B", A_DAY),
    Figure("dagster_bytes", "Dagster's records", "B", KEPT),
    Figure("partitions", "partitions, account × month", "", KEPT),
    Figure("day_partitions", "partitions, account × day", "", KEPT),
    Figure("rows", "rows of the database", "", KEPT),
    Figure("database_bytes", "database", "B", KEPT),
    Figure("landing_bytes", "landing zone", "B", KEPT),
    Figure("lake_bytes", "lake", "B", KEPT),
    Figure("lake_files", "files of the lake", "", KEPT),
    Figure("live_workers", "of a worker's time, busiest hour", "", MACHINES),
    Figure("cpu_seconds", "CPU s a day", "s", MACHINES),
    Figure("cores", "cores, busiest hour", "", MACHINES),
    Figure("worker_bytes", "memory of a worker", "B", MACHINES),
    Figure("digest_hours", "hours until all digests are made", "", MACHINES),
    Figure("history_days", "days for all history, one process", "", MACHINES),
    Figure("databases", "D1 databases", "", CLOUDFLARE),
    Figure("d1_written", "rows written a day", "", CLOUDFLARE),
    Figure("d1_read", "rows read a day", "", CLOUDFLARE),
    Figure("rest_calls", "REST calls in 5 min without the edge, busiest hour", "", CLOUDFLARE),
    Figure("queue_calls", "REST calls in 5 min for the queue, busiest hour", "", CLOUDFLARE),
    Figure("r2_a", "R2 class A a day", "", CLOUDFLARE),
    Figure("r2_b", "R2 class B a day", "", CLOUDFLARE),
    Figure("queue_operations", "queue operations a day", "", CLOUDFLARE),
    Figure("asked", "model: calls a day", "", CLOUDFLARE),
    Figure("tokens", "model: tokens a day", "", CLOUDFLARE),
    Figure("asked_a_minute", "model: calls a minute, busiest hour", "", CLOUDFLARE),
    Figure("usd", "USD a month, without machines and model", "$", CLOUDFLARE),
    Figure("model_usd", "USD a month, model", "$", CLOUDFLARE),
)


def demand(load: Load, costs: Costs, accounts: float) -> dict[str, float]:
    """What so many accounts take, by the keys of `FIGURES`."""
    n, m, runs = accounts, load.messages_a_day, load.runs
    days, months = load.days_kept, load.days_kept * 12 / YEAR
    questions = n * costs.live_questions(m, runs)
    asked = questions if load.model == "workers_ai" else 0.0
    live_cpu = n * runs * (costs.live_cpu.at(load.in_day) + costs.landing_cpu)
    polls = n / load.cadence
    launched = n * LAUNCHED_A_DAY
    other_cpu = polls * DAY * costs.poll_cpu + n * HOUSEKEEPING_CPU_SECONDS
    launched_cpu = launched * LAUNCHED_CPU_SECONDS
    # Superseded runs stay a day, and until the night after it; digests and usage 30 days whole.
    whole = 2 * runs * costs.run_bytes.at(1) + (2 * 30 + 2) * costs.digest_bytes
    condensed = STEPS * months * costs.condensed_bytes
    in_window = min(load.digest_days, load.years_of_use * YEAR)
    condensed += 2 * max(in_window - 30, 0) * costs.condensed_bytes
    kept_files = months * costs.joined_files + LOOSE_DAYS * costs.lake_files.at(m)
    database = n * days * costs.database_bytes.at(m)
    d1_written = n * runs * (D1_WRITTEN_OF_RUN + D1_WRITTEN_OF_MESSAGE * load.in_day)
    d1_read = n * runs * D1_READ_OF_RUN
    r2_a, r2_b = n * runs * R2_A_OF_RUN, n * runs * R2_B_OF_RUN
    queue_operations = n * m * QUEUE_OPERATIONS
    lake, landing = (n * days * line.at(m) for line in (costs.joined_bytes, costs.landing_bytes))
    live_workers = load.peak * live_cpu / DAY
    waiting = WAITING_CALLS_A_SECOND * max(math.ceil(live_workers), 1)
    requests = n * runs * D1_CALLS_OF_RUN + n * m + waiting * DAY
    return {
        "messages": n * m,
        "conversations": questions,
        "polls": polls,
        "runs": n * runs,
        "launched": launched,
        "steps": n * runs * STEPS + launched,
        "events": n * (runs * costs.events.at(1) + LAUNCHED_A_DAY * costs.digest_events),
        "run_bytes": n * (runs * costs.run_bytes.at(1) + LAUNCHED_A_DAY * costs.digest_bytes),
        "dagster_bytes": n * (whole + condensed),
        "partitions": n * load.months,
        "day_partitions": n * load.digest_days,
        "rows": n * days * costs.rows.at(m),
        "database_bytes": database,
        "landing_bytes": landing,
        "lake_bytes": lake,
        "lake_files": n * kept_files,
        "live_workers": live_workers,
        "cpu_seconds": live_cpu + launched_cpu + other_cpu,
        "cores": (load.peak * live_cpu + other_cpu) / DAY + launched_cpu / DAY,
        "worker_bytes": costs.process_mb * 2**20
        + n * (days * m * LANDING_INDEX_BYTES + load.months * costs.partition_key_bytes),
        "digest_hours": digest_hours(n),
        "history_days": n
        * load.backlog_years
        * YEAR
        * (costs.history_cpu.at(m) + m * costs.import_cpu)
        / DAY,
        "databases": math.ceil(database / D1_BYTES),
        "d1_written": d1_written,
        "d1_read": d1_read,
        "rest_calls": load.peak * n * runs * D1_CALLS_OF_RUN * WINDOW / DAY
        + waiting * WINDOW / REST_LOOKS_EVERY,
        "queue_calls": WINDOW * (1 + 2 * load.peak * n * m / DAY / QUEUE_BATCH),
        "r2_a": r2_a,
        "r2_b": r2_b,
        "queue_operations": queue_operations,
        "asked": asked,
        "tokens": asked * TOKENS_OF_QUESTION,
        "asked_a_minute": load.peak * asked / (DAY / 60),
        "usd": SUBSCRIPTION_USD
        + bill(
            {
                ("d1", "rows written"): d1_written,
                ("d1", "rows read"): d1_read,
                ("r2", "class a"): r2_a,
                ("r2", "class b"): r2_b,
                ("queues", "operations"): queue_operations,
                ("workers", "requests"): requests,
            },
            {("d1", "GB-months"): database / GB, ("r2", "GB-months"): (lake + landing) / GB},
        ),
        "model_usd": DAYS * asked * _question_usd(),
    }


def digest_hours(accounts: float) -> float:
    """From 05:00 UTC until the last digest is made."""
    each = max(LAUNCHED_SECONDS / PLACES, 1 / LAUNCHES_A_SECOND) / 3600
    return max(2 * accounts * each - LEARNING_EARLIER_HOURS, accounts * each)


def bill(a_day: Mapping[tuple[str, str], float], kept: Mapping[tuple[str, str], float]) -> float:
    """USD of a month beyond what is free, by the price list."""
    month = [
        Used("2026-11-01", "", service, what, round(count * DAYS))
        for (service, what), count in a_day.items()
    ] + [
        Used("2026-11-01", "", service, what, round(count))
        for (service, what), count in kept.items()
    ]
    return sum(one.usd for one in billed(month))


def _question_usd() -> float:
    asked = TOKENS_OF_QUESTION - OF_THEM_ANSWER
    return asked * price_of(MODEL, False) + OF_THEM_ANSWER * price_of(MODEL, True)


@dataclass(frozen=True)
class Turn:
    """What to turn when a limit is met."""

    words: str
    exists: bool = True  # in the product; else it would have to be built


@dataclass(frozen=True)
class Limit:
    """A figure that must not exceed something."""

    key: str
    name: str
    most: float
    turns: Sequence[Turn]


@dataclass(frozen=True)
class Met:
    """At how many accounts a limit is met; None: not below ten million."""

    accounts: int | None
    limit: Limit


MOST_ACCOUNTS = 10_000_000

LOCATIONS = Turn(
    "several code locations of the same image, each with its share of the accounts, and a worker "
    "and a Dagster partition set for each",
    exists=False,
)


def limits(load: Load, costs: Costs) -> list[Limit]:
    """Every limit that is known by a number."""
    months = round(load.days_kept * 12 / YEAR) + 2
    in_time = (DIGEST_HOURS + LEARNING_EARLIER_HOURS) * 3600 * LAUNCHES_A_SECOND
    most_digests = round(in_time / 2)
    return [
        Limit(
            "day_partitions",
            "Dagster's advice, digests and usage by account × day",
            ADVISED_PARTITIONS,
            (
                Turn(
                    "COMMUNICATOR_DIGEST_MONTHS: fewer. With one before this month "
                    f"{ADVISED_PARTITIONS // (2 * LONGEST_MONTH):,} accounts"
                ),
                LOCATIONS,
            ),
        ),
        Limit(
            "partitions",
            "Dagster's advice, the chain by account × month",
            ADVISED_PARTITIONS,
            (
                Turn(
                    "COMMUNICATOR_FIRST_MONTH: where your history begins. With the "
                    f"{months} months of this load {ADVISED_PARTITIONS // months:,} accounts"
                ),
                LOCATIONS,
            ),
        ),
        Limit(
            "digest_hours",
            f"digests within {DIGEST_HOURS:g} h, {PLACES} places in the run queue",
            DIGEST_HOURS,
            (
                Turn(
                    "max_concurrent_runs, then Celery or Kubernetes: up to "
                    f"{most_digests:,} accounts, for Dagster's daemon starts one run a second"
                ),
                Turn("one run for the digests of many accounts", exists=False),
            ),
        ),
        Limit(
            "rest_calls",
            "Cloudflare's REST API, D1 asked without the edge Worker",
            MOST_CALLS,
            (Turn("COMMUNICATOR_D1_URL: through the edge Worker, which does not count"),),
        ),
        Limit(
            "queue_calls",
            "Cloudflare's REST API, the edge's queue",
            MOST_CALLS,
            (
                Turn("fewer pushes: platforms that are polled do not pass there"),
                Turn("a consumer at the edge that moves pushes into D1", exists=False),
            ),
        ),
        Limit(
            "asked_a_minute",
            "the model's 300 calls a minute",
            MODEL.requests_per_minute,
            (
                Turn("fewer runs a day ask less: a conversation is read once in each"),
                Turn(
                    "`model set … --options '{\"requests_per_minute\": …}'`, at a server that "
                    "takes more; without an answer the offline analyser stands in"
                ),
                Turn("several endpoints that share the calls", exists=False),
            ),
        ),
        Limit(
            "live_workers",
            "one worker's live runs, one after the other",
            1.0,
            (
                Turn("a second worker: they take turns by leases; on one machine up to its cores"),
                Turn("at Cloudflare: workers on other machines"),
            ),
        ),
        Limit(
            "history_days",
            "all history at once, worked off in a week by the process beside the worker",
            7.0,
            (
                Turn(
                    "COMMUNICATOR_BACKLOG=dagster: runs that Dagster launches, on Celery's "
                    "workers or Kubernetes; Postgres for Dagster's records"
                ),
                Turn("bring accounts in one after the other"),
            ),
        ),
        Limit(
            "cores",
            f"{load.cores:g} cores of one machine",
            load.cores,
            (
                Turn(
                    "COMMUNICATOR_BACKEND=cloudflare and Postgres for Dagster's records: then "
                    "Celery or Kubernetes on several machines"
                ),
            ),
        ),
        Limit(
            "worker_bytes",
            f"{load.memory_gb:g} GB of memory for each worker",
            load.memory_gb * GB,
            (
                Turn(
                    "more memory: the index of what has landed is some 20 bytes a message, "
                    "for every account that pushed within a day"
                ),
                LOCATIONS,
            ),
        ),
        Limit(
            "polls",
            f"one worker's {AT_ONCE} places for polls, {POLL_SECONDS} s each",
            AT_ONCE / POLL_SECONDS,
            (
                Turn("pushes where the platform has them, and `accounts set … cadence` (seconds)"),
                Turn("a second worker"),
            ),
        ),
        Limit(
            "disk",
            f"{load.disk_gb:g} GB of disk in the folder",
            load.disk_gb * GB,
            (
                Turn("the setting `retention` for Dagster's records"),
                Turn("COMMUNICATOR_BACKEND=cloudflare: `restore` moves an installation there"),
            ),
        ),
        Limit(
            "databases",
            "one D1 database of 10 GB",
            1.0,
            (
                Turn("one installation for each group of users"),
                Turn("users spread over several databases by a directory in KV", exists=False),
            ),
        ),
        Limit(
            "pushes",
            "one gateway's pushes a second, on two cores, busiest hour",
            PUSHES_A_SECOND,
            (Turn("the edge Worker takes them; or several gateways on one database"),),
        ),
    ]


def met(load: Load, costs: Costs) -> list[Met]:
    """The limits in the order in which they are met."""

    def amount(key: str, accounts: int) -> float:
        found = demand(load, costs, accounts)
        if key == "disk":
            names = ("dagster_bytes", "database_bytes", "landing_bytes", "lake_bytes")
            return sum(found[name] for name in names)
        if key == "pushes":
            return load.peak * found["messages"] / DAY
        return found[key]

    def first(limit: Limit) -> int | None:
        """The smallest count that is too much: all demands grow with the accounts."""
        low, high = 0, MOST_ACCOUNTS
        if amount(limit.key, high) <= limit.most:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if amount(limit.key, middle) > limit.most:
                high = middle
            else:
                low = middle
        return high

    found = [Met(first(limit), limit) for limit in limits(load, costs)]
    return sorted(found, key=lambda one: one.accounts or math.inf)
