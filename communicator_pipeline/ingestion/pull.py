"""Pulling: a platform is asked, what it says lands, and only then the cursors move.

Belongs here: what is the same for every platform: leases, deadlines, budgets, the order of writing,
what a failure means. Does not belong here: asking (`platforms/`), when an account is due
(`storage/connections.py`), materialising what has landed (`runs.py`).

A kill costs at most the page that was under way; it is asked for again and lands as known. A limit
is kept in the database, so that no process asks before its deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import (
    Client,
    Connection,
    LoginNeeded,
    NotSupported,
    OverBudget,
    Page,
    PlatformError,
    PullRequest,
    Unreachable,
    Wait,
    Window,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.connections import (
    Connections,
    TroubleKind,
    account_scope,
    redacted,
    window_scope,
)
from communicator_pipeline.storage.credentials import KeyMissing
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.landing import Landing
from communicator_pipeline.storage.metering import on_behalf_of
from communicator_pipeline.storage.work import WorkQueue

NEW = ""
"""The scope of the cursors that bring what is new; a window of history has its own."""

LONGEST_BACKOFF = timedelta(hours=1)
LOGIN_TRIED_AGAIN = timedelta(hours=1)  # a platform's bad day can look like a dead token
RENEW_EVERY = timedelta(seconds=30)
HISTORY_TRIED_AGAIN = timedelta(minutes=5)

State = Literal[
    "ok",
    "waiting",  # for the platform's limit: no failure
    "busy",  # somebody else pulls the account, or has taken it over
    "unfinished",  # told to stop: the next one goes on
    "removed",  # the account, meanwhile
    "paused",
    "login needed",
    "over budget",
    "unreachable",
    "fault",  # ours, or the platform has changed
    "not supported",
]


@dataclass
class PullReport:
    """What became of a pull."""

    account: str
    state: State = "ok"
    words: str = ""  # why it is not ok, for people
    not_before: datetime | None = None  # of a wait, UTC
    counts: Counts = field(default_factory=Counts)
    notices: list[str] = field(default_factory=list)
    done: float | None = None  # 0…1 of a window
    pages: int = 0
    reads: int = 0
    cost_usd: float = 0.0

    @property
    def kept(self) -> int:
        """New messages and new versions."""
        return self.counts.kept + self.counts.updated


Watch = Callable[[PullReport], None]
Stop = Callable[[], bool]
"""Whether to end after the page that is under way."""


def _never() -> bool:
    return False


def pull_new(
    stores: Stores,
    account: str,
    landing: Landing | None = None,
    watch: Watch = lambda report: None,
    stop: Stop = _never,
) -> PullReport:
    """Fetch what is new since the cursors, land it, mark its days. Raises `NotFound` for an
    account that is not connected."""
    since = Connections(stores).covered_since(account)
    return _pull(stores, account, None, landing, watch, since, stop)


def pull_history(
    stores: Stores,
    account: str,
    window: Window,
    landing: Landing | None = None,
    watch: Watch = lambda report: None,
    stop: Stop = _never,
) -> PullReport:
    """Fetch what was sent in a window, unless it has been fetched. A pull that stopped half-way
    (a limit, a kill) goes on where it was."""
    connections = Connections(stores)
    report = PullReport(account, done=1.0)
    for missing in missing_history(stores, account, window):
        connections.ask_for_history(account, missing)
        report = _pull(stores, account, missing, landing, watch, missing.first, stop)
        if report.state != "ok":
            return report
    return report


def missing_history(stores: Stores, account: str, window: Window) -> list[Window]:
    """What of a window neither the live cursors bring nor an earlier pull has brought; what is
    under way first."""
    connections = Connections(stores)
    last = min(window.last, connections.covered_since(account))
    known = connections.history(account)
    missing = [Window(window.first, last)] if window.first < last else []
    for found in known:
        if found.finished:
            missing = [rest for piece in missing for rest in _without(piece, found.window)]
    # A window that was asked for goes on as it was cut, for its cursors know only that.
    begun = [
        found.window for found in known if not found.finished and _overlap(found.window, window)
    ]
    for piece in begun:
        missing = [rest for part in missing for rest in _without(part, piece)]
    return [*begun, *missing]


def unfinished_history(stores: Stores, account: str) -> Window | None:
    """The newest stretch of history that was asked for, is not through, and does not rest."""
    now = utc_text(datetime.now(UTC))
    wanted = [
        found.window
        for found in Connections(stores).history(account)
        if not found.finished and found.not_before <= now
    ]
    return max(wanted, default=None)


def _pull(
    stores: Stores,
    account: str,
    window: Window | None,
    landing: Landing | None,
    watch: Watch,
    since: datetime,
    stop: Stop,
) -> PullReport:
    report = PullReport(account)
    try:
        with on_behalf_of(account):
            _pull_into(report, stores, window, landing, watch, since, stop)
    except Exception:
        # Whatever it was that failed first: the rows that it counted on are gone.
        if Connections(stores).exists(account):
            raise
        report.state, report.words = "removed", "the account was removed meanwhile"
    return report


def _pull_into(
    report: PullReport,
    stores: Stores,
    window: Window | None,
    landing: Landing | None,
    watch: Watch,
    since: datetime,
    stop: Stop,
) -> None:
    connections = Connections(stores)
    account = report.account
    health = connections.health(account)
    if health.state == "paused":
        report.state, report.words = "paused", f"communicator accounts resume {account}"
        return
    now = datetime.now(UTC)
    waits = connections.waits(now)
    if (until := waits.get(account_scope(account))) is not None:
        report.state, report.words, report.not_before = "waiting", health.why_waits, until
        return
    lease = connections.lease(account, now)
    if lease is None:
        report.state, report.words = "busy", "another process is pulling the account"
        return
    try:
        with _failures_noted(connections, report, window):
            connection = connections.load(account)
            with _secrets_kept(connection):
                live = live_side(load_account(stores.database, account).platform)
                request = PullRequest(
                    now,
                    since,
                    window,
                    connections.cursors(account, NEW if window is None else window_scope(window)),
                    connections.chats(account),
                    waits,
                    _budget(connections, connection, now),
                )
                with live.connect(connection) as client:
                    _take_pages(
                        stores, connection, client, request, lease, landing, report, watch, stop
                    )
    finally:
        connections.release(account, lease)
    if report.state == "ok":
        if window is None:
            connections.note_success(account, now, report.kept > 0, report.notices)
        else:
            connections.history_progress(account, window, 1.0)
            report.done = 1.0


def _take_pages(
    stores: Stores,
    connection: Connection,
    client: Client,
    request: PullRequest,
    lease: str,
    landing: Landing | None,
    report: PullReport,
    watch: Watch,
    stop: Stop,
) -> None:
    connections = Connections(stores)
    account = connection.account
    scope = NEW if request.window is None else window_scope(request.window)
    intake: Intake | None = None
    moved: dict[str, str] = {}
    renewed = request.now

    def keep() -> None:
        """Land, then move, never the other way round; and neither if the account is another's."""
        nonlocal renewed
        now = datetime.now(UTC)
        if (intake is not None or moved) and not connections.renew(account, lease, now):
            raise _TakenOver
        renewed = now
        if intake is not None:
            intake.flush()
        connections.move_cursors(account, scope, moved, lease)
        moved.clear()

    try:
        for page in client.pull(request):
            report.pages += 1
            if page.records:
                intake = intake or _intake(stores, connection, landing, report)
                for record in page.records:
                    intake.take(record)
            moved.update(page.cursors)
            _note_page(connections, report, page, connection)
            # Small pages are landed together: a file for each would be a file for each chat.
            if intake is not None and intake.is_full:
                keep()
            if datetime.now(UTC) - renewed > RENEW_EVERY:
                keep()
                if not connections.renew(account, lease, datetime.now(UTC)):
                    raise _TakenOver
            if request.window is not None and page.done is not None:
                connections.history_progress(account, request.window, min(page.done, 0.999))
            watch(report)
            if stop():
                report.state, report.words = "unfinished", "it goes on where it was"
                break
    finally:
        keep()


def _intake(
    stores: Stores, connection: Connection, landing: Landing | None, report: PullReport
) -> Intake:
    if landing is None:
        landing = Landing(stores.lake, WorkQueue(stores.database), connection.account)
    return Intake(
        stores.database,
        landing,
        report.counts,
        "pull",
        clean=lambda text: redacted(text, connection),
    )


def _note_page(
    connections: Connections, report: PullReport, page: Page, connection: Connection
) -> None:
    connections.note_cost(report.account, page.reads, page.cost_usd)
    report.reads += page.reads
    report.cost_usd += page.cost_usd
    report.notices += [redacted(notice, connection) for notice in page.notices]
    if page.done is not None:
        report.done = page.done


def _budget(connections: Connections, connection: Connection, now: datetime) -> float | None:
    """US dollars that the account may still spend this month; None: as much as it wants."""
    cap = connection.setting("cap_usd")
    if not cap:
        return None
    return max(0.0, float(cap) - connections.spent_this_month(connection.account, now))


@contextmanager
def _secrets_kept(connection: Connection) -> Iterator[None]:
    """Errors of a platform go on without its secrets, and without the trace that quotes them."""
    try:
        yield
    except _TakenOver:
        raise
    except PlatformError as error:
        error.args = tuple(redacted(str(arg), connection) for arg in error.args)
        raise
    except Exception as error:
        words = redacted(f"{type(error).__name__}: {error}", connection)
        raise _Fault(words) from None


class _Fault(Exception):
    """Something that no client should raise."""


class _TakenOver(Exception):
    """The lease was over before the page had come, and somebody else is at it."""


@contextmanager
def _failures_noted(
    connections: Connections, report: PullReport, window: Window | None
) -> Iterator[None]:
    """What a failure means for the account's next pull, and for whoever looks at it. That of a
    window of history is the window's own: what is new is not put off by it."""
    account = report.account
    try:
        yield
    except _TakenOver:
        connections.health(account)  # raises if the lease went with the account
        report.state, report.words = "busy", "another process has taken the account over"
    except Wait as wait:
        report.state, report.words, report.not_before = "waiting", str(wait), wait.until
        connections.wait(account, wait.scope, wait.until, str(wait))
        if window is None:
            now = datetime.now(UTC)
            if report.pages:  # what could be asked was asked: some limits are met at every pull
                connections.note_success(account, now, report.kept > 0, report.notices)
            connections.put_off(account, min(wait.until, now + LONGEST_BACKOFF))
    except NotSupported as error:
        report.state, report.words = "not supported", str(error)
        if window is None:  # what comes is pushed: asking every day is asking often enough
            connections.note_success(account, datetime.now(UTC), False, ())
            connections.put_off(account, datetime.now(UTC) + timedelta(days=1))
        else:
            connections.forget_history(account, window)  # nobody need come back to it
    except (LoginNeeded, KeyMissing) as error:
        _trouble(connections, report, window, "login needed", str(error), LOGIN_TRIED_AGAIN)
    except OverBudget as error:
        _trouble(connections, report, window, "over budget", str(error), LONGEST_BACKOFF)
    except Unreachable as error:
        _trouble(connections, report, window, "unreachable", str(error), None)
    except (PlatformError, _Fault) as error:
        _trouble(connections, report, window, "fault", str(error), None)


def _trouble(
    connections: Connections,
    report: PullReport,
    window: Window | None,
    kind: Literal["login needed", "over budget", "unreachable", "fault"],
    words: str,
    again_in: timedelta | None,
) -> None:
    report.state, report.words = kind, words
    now = datetime.now(UTC)
    if window is not None:
        until = now + (again_in or HISTORY_TRIED_AGAIN)
        connections.put_off_history(report.account, window, until, words)
        return
    failures = connections.failures(report.account) + 1
    backoff = min(LONGEST_BACKOFF, connections.cadence(report.account) * 2 ** min(failures, 12))
    # A platform that once does not answer is no news; the third time in a row it is.
    shown: TroubleKind = kind if kind != "unreachable" or failures >= 3 else ""
    connections.note_trouble(
        report.account, shown, words if shown else "", now + (again_in or backoff), failures
    )


def _without(piece: Window, done: Window) -> list[Window]:
    """What of a window is left without another one."""
    if not _overlap(piece, done):
        return [piece]
    rests = [Window(piece.first, done.first), Window(done.last, piece.last)]
    return [rest for rest in rests if rest.first < rest.last]


def _overlap(one: Window, other: Window) -> bool:
    return one.first < other.last and other.first < one.last


def fetch_missing(
    stores: Stores,
    account: str,
    window: Window,
    wait: Callable[[datetime], bool],
    watch: Watch = lambda report: None,
) -> list[PullReport]:
    """Fetch what is missing of a window: its history, and what is new if it has not ended.

    `wait` is asked at a limit whether to wait until then (and does so), or to leave the rest to
    whoever comes next: it stays noted as wanted. An account without a connection, or without
    history, has nothing missing.
    """
    reports: list[PullReport] = []
    steps: Sequence[Callable[[], PullReport]] = [
        lambda: pull_history(stores, account, window, watch=watch)
    ]
    if window.last > datetime.now(UTC):
        steps = [lambda: pull_new(stores, account, watch=watch), *steps]
    for step in steps:
        while True:
            try:
                report = step()
            except NotFound:
                return reports
            reports.append(report)
            if report.state != "waiting" or report.not_before is None:
                break
            if not wait(report.not_before):
                break
    return reports
