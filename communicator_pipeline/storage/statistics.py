"""A user's numbers: what came, how soon it was answered, what became of the drafts.

Belongs here: counting in the database, for the accounts that a user may see. Does not belong here:
how the numbers look (`gateway/pages/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row

MOST_CATEGORIES = 7
"""The rest of them are counted together."""

REST = "all others"
NOT_UNDERSTOOD = "not understood yet"

_MINE = (
    "mine AS (SELECT p.account, p.me FROM account_members AS m JOIN accounts AS p "
    "ON p.account = m.account WHERE m.user_id = ?1 AND (?2 IS NULL OR p.account = ?2))"
)

_MESSAGES = (
    f"WITH {_MINE} SELECT g.day, coalesce(a.category, '') AS category, count(*) AS messages "
    "FROM mine JOIN messages AS g ON g.account = mine.account "
    "LEFT JOIN analyses AS a ON a.account = g.account AND a.day = g.day "
    "AND a.conversation_id = g.conversation_id "
    "WHERE g.day BETWEEN ?3 AND ?4 AND NOT g.deleted AND g.kind = 'message' GROUP BY 1, 2"
)

# A wait begins with the first message of others after the owner's last one. Whether the first
# message that is read of a conversation goes on with an older wait, the message before it says.
_ANSWERS = (
    f"WITH {_MINE}, owners AS MATERIALIZED (SELECT mine.account, value AS author_id "
    "FROM mine, json_each(mine.me)), "
    "said AS (SELECT g.account, g.conversation_id, g.sent_at, g.message_id, "
    "o.author_id IS NOT NULL AS own FROM mine JOIN messages AS g ON g.account = mine.account "
    "LEFT JOIN owners AS o ON o.account = g.account AND o.author_id = g.author_id "
    "WHERE g.day BETWEEN ?3 AND ?4 AND NOT g.deleted AND g.kind = 'message' "
    "AND (o.author_id IS NOT NULL OR NOT g.author_is_bot)), "
    "placed AS (SELECT *, lag(own) OVER (PARTITION BY account, conversation_id "
    "ORDER BY sent_at, message_id) AS before, min(iif(own, sent_at, NULL)) OVER "
    "(PARTITION BY account, conversation_id ORDER BY sent_at DESC, message_id DESC "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS answered_at FROM said), "
    "waits AS (SELECT date(substr(sent_at, 1, 10), 'weekday 0', '-6 days') AS week, "
    "unixepoch(answered_at) - unixepoch(sent_at) AS seconds FROM placed AS p "
    "WHERE NOT own AND coalesce(before, (SELECT EXISTS (SELECT 1 FROM owners AS o "
    "WHERE o.account = g.account AND o.author_id = g.author_id) FROM messages AS g "
    "WHERE g.account = p.account AND g.conversation_id = p.conversation_id "
    "AND g.sent_at <= p.sent_at AND g.day < ?3 AND NOT g.deleted AND g.kind = 'message' "
    "AND (NOT g.author_is_bot OR EXISTS (SELECT 1 FROM owners AS o "
    "WHERE o.account = g.account AND o.author_id = g.author_id)) "
    "ORDER BY g.sent_at DESC, g.message_id DESC LIMIT 1), 1)), "
    "ranked AS (SELECT week, seconds, count(seconds) OVER (PARTITION BY week) AS n, "
    "row_number() OVER (PARTITION BY week ORDER BY seconds NULLS LAST) AS place FROM waits) "
    "SELECT week, max(n) AS answered, count(*) - max(n) AS waiting, "
    "avg(iif(seconds IS NOT NULL AND place IN ((n + 1) / 2, n / 2 + 1), seconds, NULL)) "
    "AS median, "
    "max(iif(seconds IS NOT NULL AND place = (9 * n + 9) / 10, seconds, NULL)) AS slow "
    "FROM ranked GROUP BY week"
)

# An approval that was taken back is no verdict: the draft waits again.
_DRAFTS = (
    f"WITH {_MINE}, verdicts AS (SELECT iif(a.edited, 'edited', 'unedited') AS verdict, "
    "substr(a.approved_at, 1, 10) AS day FROM mine JOIN approvals AS a "
    "ON a.account = mine.account WHERE a.draft IS NOT NULL AND NOT a.automatic "
    "AND EXISTS (SELECT 1 FROM deliveries AS d WHERE d.approval_id = a.approval_id "
    "AND d.state <> 'canceled') "
    "UNION ALL SELECT 'rejected', substr(r.rejected_at, 1, 10) FROM mine "
    "JOIN draft_rejections AS r ON r.account = mine.account) "
    "SELECT date(day, 'weekday 0', '-6 days') AS week, verdict, count(*) AS drafts "
    "FROM verdicts WHERE day BETWEEN ?3 AND ?4 GROUP BY 1, 2"
)


# What `language_model.model.daily_budget` and `keeping.spent_today` say, and whether an analyser
# stood in today, in one statement: a page's list is no place for four.
_MODEL_STATE = (
    "SELECT (SELECT min(CAST(value AS REAL)) FROM settings WHERE key = 'model_budget_usd' "
    "AND scope IN ('installation', 'user:' || ?1) AND value <> 'null') AS budget, "
    "(SELECT coalesce(sum(cost_usd), 0) FROM model_usage WHERE user_id = ?1 AND day = ?2) "
    "AS spent, "
    "count(a.account) AS stood_in, max(a.stood_in) AS why FROM (SELECT 1) LEFT JOIN analyses AS a "
    "INDEXED BY analyses_by_day "
    "ON a.account IN (SELECT account FROM account_members WHERE user_id = ?1) AND a.day = ?2 "
    "AND a.stood_in <> ''"
)


@dataclass(frozen=True)
class Usage:
    """What a model took on a day (UTC), for an account, to a purpose."""

    user_id: str
    day: str
    account: str
    purpose: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    neurons: float
    cost_usd: float


@dataclass(frozen=True)
class ModelState:
    """How it stands with the model today (UTC)."""

    budget_usd: float | None  # None: no limit
    spent_usd: float
    stood_in: int  # conversations of today that the offline analyser read in a model's place
    why: str  # of one of them

    @property
    def left_usd(self) -> float | None:
        return None if self.budget_usd is None else max(0.0, self.budget_usd - self.spent_usd)

    @property
    def words(self) -> str:
        """What the user should know; "" if all is well."""
        spent = self.budget_usd is not None and self.spent_usd >= self.budget_usd
        if spent and (self.spent_usd or self.stood_in):  # with no model, nothing is missed
            return (
                f"The model's budget for today (${self.budget_usd:,.2f}) is spent; conversations "
                "are read by the offline analyser until 00:00 UTC."
            )
        if self.stood_in:
            many = "1 conversation" if self.stood_in == 1 else f"{self.stood_in} conversations"
            return f"The offline analyser read {many} of today in the model's place: {self.why}."
        return ""


@dataclass(frozen=True)
class Answers:
    """How soon the owner answered what others wrote in a week; times in seconds."""

    answered: int = 0
    waiting: int = 0  # without an answer to this day
    median: float | None = None
    slow: float | None = None  # nine of ten were answered sooner, or just then


@dataclass(frozen=True)
class Drafts:
    """What people made of the drafts of a week."""

    unedited: int = 0
    edited: int = 0
    rejected: int = 0

    @property
    def all(self) -> int:
        return self.unedited + self.edited + self.rejected


@dataclass(frozen=True)
class Figures:
    """All numbers of a stretch of days; a week is named by its Monday."""

    accounts: Sequence[tuple[str, str]]  # key and name of all that the user may see
    categories: Sequence[str]  # the most frequent first
    messages: Mapping[str, Mapping[str, int]]  # day → category → messages
    answers: Mapping[str, Answers]  # week → …
    drafts: Mapping[str, Drafts]


class Statistics:
    """The numbers of one user's accounts."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def figures(self, days: int, account: str | None = None, today: date | None = None) -> Figures:
        """The last `days` days, today among them (UTC), of one account or of all; one call of the
        database. Raises `NotFound` for an account that is not the user's."""
        last = today or datetime.now(UTC).date()
        first = last - timedelta(days=days - 1)
        asked = (self.user_id, account, first.isoformat(), last.isoformat())
        accounts, messages, answers, drafts = self.database.batch(
            [
                (
                    "SELECT a.account, a.name FROM accounts AS a JOIN account_members AS m "
                    "ON m.account = a.account WHERE m.user_id = ? ORDER BY a.account",
                    (self.user_id,),
                ),
                (_MESSAGES, asked),
                (_ANSWERS, asked),
                (_DRAFTS, asked),
            ]
        )
        if account is not None and account not in {row["account"] for row in accounts}:
            raise NotFound(f"there is no account {account!r} among yours")
        every_day = [(first + timedelta(days=n)).isoformat() for n in range(days)]
        weeks = sorted({monday(date.fromisoformat(day)).isoformat() for day in every_day})
        categories, by_day = _by_day(messages, every_day)
        return Figures(
            [(row["account"], row["name"]) for row in accounts],
            categories,
            by_day,
            _by_week_answers(answers, weeks),
            _by_week_drafts(drafts, weeks),
        )

    def usage(
        self,
        days: int,
        account: str | None = None,
        everybody: bool = False,
        today: date | None = None,
    ) -> list[Usage]:
        """What models took in the last `days` days, today among them (UTC), the newest first: for
        the user, or (whoever asks has made sure that they administer) for everybody."""
        last = today or datetime.now(UTC).date()
        first = last - timedelta(days=days - 1)
        rows = self.database.execute(
            "SELECT user_id, day, account, purpose, model, calls, input_tokens, output_tokens, "
            "neurons, cost_usd FROM model_usage WHERE (?4 OR user_id = ?1) "
            "AND (?2 IS NULL OR account = ?2) AND day >= ?3 AND day <= ?5 "
            "ORDER BY day DESC, user_id, account, purpose, model",
            (self.user_id, account, first.isoformat(), int(everybody), last.isoformat()),
        )
        return [Usage(**row) for row in rows]

    def model_state(self, today: date | None = None) -> ModelState:
        """Budget, what is spent of it, and whether the offline analyser stands in; one call."""
        day = (today or datetime.now(UTC).date()).isoformat()
        row = self.database.execute(_MODEL_STATE, (self.user_id, day))[0]
        return ModelState(row["budget"], float(row["spent"]), row["stood_in"], row["why"] or "")


def monday(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def _by_day(
    rows: Iterable[Row], days: Iterable[str]
) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The categories to show, and each day's numbers of them."""
    read = [(row["day"], row["category"] or NOT_UNDERSTOOD, row["messages"]) for row in rows]
    totals: Counter[str] = Counter()
    for _, category, count in read:
        totals[category] += count
    shown = sorted(totals, key=lambda name: (-totals[name], name))
    if len(shown) > MOST_CATEGORIES + 1:
        shown = [*shown[:MOST_CATEGORIES], REST]
    found = {day: dict.fromkeys(shown, 0) for day in days}
    for day, category, count in read:
        found[day][category if category in shown else REST] += count
    return shown, found


def _by_week_answers(rows: Iterable[Row], weeks: Iterable[str]) -> dict[str, Answers]:
    found = {row["week"]: row for row in rows}
    return {
        week: Answers(
            found[week]["answered"],
            found[week]["waiting"],
            found[week]["median"],
            found[week]["slow"],
        )
        if week in found
        else Answers()
        for week in weeks
    }


def _by_week_drafts(rows: Iterable[Row], weeks: Iterable[str]) -> dict[str, Drafts]:
    counts = {(row["week"], row["verdict"]): row["drafts"] for row in rows}
    return {
        week: Drafts(*(counts.get((week, name), 0) for name in ("unedited", "edited", "rejected")))
        for week in weeks
    }
