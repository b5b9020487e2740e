"""The pages beside the inbox: figures, a day's digest.

Belongs here: what these pages show. Does not belong here: counting (`storage/statistics.py`),
drawing (`svg.py`), the settings (`settings.py`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.gateway.identity import Opened, Reader
from communicator_pipeline.gateway.pages import settings, svg
from communicator_pipeline.gateway.pages.rendering import linked, page
from communicator_pipeline.gateway.pages.together import Together
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.statistics import (
    Drafts,
    Figures,
    ModelState,
    Statistics,
    Usage,
)

FIRST_DAY, LAST_DAY = date(1990, 1, 1), date(9000, 1, 1)
"""Between these, every day has one before and one after it."""

router = APIRouter(include_in_schema=False)
router.include_router(settings.router)

Filter = Annotated[str | None, Query(max_length=200)]


@dataclass(frozen=True)
class Picture:
    """A picture, and the numbers in it as a table."""

    title: str
    words: str
    drawn: Markup | None  # None: there is nothing to draw
    empty: str
    legend: Sequence[tuple[Markup, str]]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


# --- figures ---------------------------------------------------------------------------------


@router.get("/figures")
def figures_page(
    request: Request,
    opened: Opened,
    identity: Reader,
    account: Filter = None,
    days: Literal["7", "30", "90"] = "30",
) -> Response:
    """What came, how soon it was answered, what became of the drafts."""
    user, together = identity.user_id, Together(opened.database)
    figures = together.add(
        lambda database: Statistics(database, user).figures(int(days), account or None)
    )
    usage = together.add(
        lambda database: Statistics(database, user).usage(int(days), account or None)
    )
    state = together.add(lambda database: Statistics(database, user).model_state())
    together.ask()
    found = figures.value
    pictures = [
        _messages(found),
        _answers(found),
        _drafts(found),
        _cost(usage.value, list(found.messages), state.value),
    ]
    return page(
        request,
        "figures.html",
        identity,
        accounts=found.accounts,
        account=account or None,
        days=days,
        pictures=pictures,
    )


def _messages(found: Figures) -> Picture:
    title = "Messages by day and category"
    series = [
        svg.Series(name, [of_day[name] for of_day in found.messages.values()])
        for name in found.categories
    ]
    rows = [
        [
            day,
            *(svg.plain(of_day[name]) for name in found.categories),
            svg.plain(sum(of_day.values())),
        ]
        for day, of_day in found.messages.items()
    ]
    return Picture(
        title,
        "All messages, your own among them, by the category that their conversation had that day.",
        svg.stacked(title, [day[5:] for day in found.messages], series) if series else None,
        "No messages came in these days.",
        _legend(series),
        ["Day", *found.categories, "All"],
        rows,
    )


def _answers(found: Figures) -> Picture:
    title = "Time to your first answer"
    weeks = found.answers.values()
    series = [
        svg.Series("median", [week.median for week in weeks]),
        svg.Series("nine of ten within", [week.slow for week in weeks]),
    ]
    rows = [
        [
            week,
            svg.plain(one.answered),
            svg.plain(one.waiting),
            "" if one.median is None else svg.duration(one.median),
            "" if one.slow is None else svg.duration(one.slow),
        ]
        for week, one in found.answers.items()
    ]
    return Picture(
        title,
        "From the first message of others to your next one in the same conversation, by the week "
        "in which they wrote. A conversation that nobody answered has no time.",
        svg.beside(title, [week[5:] for week in found.answers], series, svg.duration)
        if any(week.answered for week in weeks)
        else None,
        "Nothing that came in these days has been answered.",
        _legend(series),
        ["Week of", "Answered", "Not answered", "Median", "Nine of ten within"],
        rows,
    )


def _drafts(found: Figures) -> Picture:
    title = "What became of the drafts"
    weeks = list(found.drafts.values())
    series = [
        svg.Series("approved as they were", [_share(week, week.unedited) for week in weeks]),
        svg.Series("approved after an edit", [_share(week, week.edited) for week in weeks]),
        svg.Series("rejected", [_share(week, week.rejected) for week in weeks]),
    ]
    rows = [
        [
            week,
            *(
                f"{svg.plain(count)} ({svg.percent(_share(one, count))})" if one.all else "0"
                for count in (one.unedited, one.edited, one.rejected)
            ),
        ]
        for week, one in found.drafts.items()
    ]
    return Picture(
        title,
        "Shares of the drafts that a person decided on in a week. What was taken back, or approved "
        "by a policy, is not counted.",
        svg.stacked(title, [week[5:] for week in found.drafts], series, svg.percent, 1.0)
        if any(week.all for week in weeks)
        else None,
        "Nobody decided on a draft in these days.",
        _legend(series),
        ["Week of", *(one.name.capitalize() for one in series)],
        rows,
    )


def _cost(rows: Sequence[Usage], days: Sequence[str], state: ModelState) -> Picture:
    title = "What the language model cost"
    models = sorted({row.model for row in rows})
    cost: defaultdict[tuple[str, str], float] = defaultdict(float)
    tokens: Counter[str] = Counter()
    for row in rows:
        cost[row.day, row.model] += row.cost_usd
        tokens[row.day] += row.input_tokens + row.output_tokens
    series = [svg.Series(model, [cost[day, model] for day in days]) for model in models]
    words = "USD by day and model, of what is asked for you."
    if state.budget_usd is not None:
        words += (
            f" Today's budget is {_usd(state.budget_usd)}, and {_usd(state.left_usd or 0)} of it "
            "is left."
        )
    return Picture(
        title,
        words,
        svg.stacked(title, [day[5:] for day in days], series, _usd) if rows else None,
        "No language model was asked in these days.",
        _legend(series),
        ["Day", *models, "Tokens"],
        [
            [day, *(_usd(cost[day, model]) for model in models), svg.plain(tokens[day])]
            for day in days
        ],
    )


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.4f}"


def _share(week: Drafts, count: int) -> float:
    return count / week.all if week.all else 0.0


def _legend(series: Sequence[svg.Series]) -> list[tuple[Markup, str]]:
    return [(svg.swatch(colour), one.name) for colour, one in enumerate(series)]


# --- digest ----------------------------------------------------------------------------------


@router.get("/digest")
def digest_page(
    request: Request,
    opened: Opened,
    identity: Reader,
    day: Filter = None,
    account: Filter = None,
) -> Response:
    """The digests of a day that have been made, of one account or of all."""
    mine, today = Accounts(opened.database, identity.user_id), datetime.now(UTC).date()
    shown = _day_of(day) if day else today
    every = mine.all()
    wanted = [mine.get(account)] if account else every
    return page(
        request,
        "digest.html",
        identity,
        accounts=[(one.account, one.name) for one in every],
        account=account or None,
        day=shown.isoformat(),
        before=(shown - timedelta(days=1)).isoformat(),
        after=(shown + timedelta(days=1)).isoformat() if shown < today else None,
        digests=[(one.account, _stored(opened, one.account, shown)) for one in wanted],
    )


def _day_of(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no day: give one as YYYY-MM-DD") from None
    if not FIRST_DAY <= found <= LAST_DAY:
        raise ValueError(f"there are no digests of {text}")
    return found


def _stored(opened: Stores, account: str, day: date) -> Markup | None:
    try:
        content, _ = opened.lake.objects.get(digest_key(account, day.isoformat()))
    except FileNotFoundError:
        return None
    return rendered(content.decode())


def rendered(markdown: str) -> Markup:
    """A digest as markup. It quotes strangers, so only headings, list items, bold words and
    commands are read as Markdown; everything else stays the text that it is."""
    made, in_list = Markup(""), False
    for line in markdown.splitlines():
        item = re.match(r"( *)- (.*)", line)
        if bool(item) != in_list:
            made += Markup("<ul>") if item else Markup("</ul>")
            in_list = bool(item)
        if item:
            name = "inner" if item[1] else "outer"
            made += Markup('<li class="{}" dir="auto">{}</li>').format(name, _inline(item[2]))
        elif heading := re.match(r"(#{1,2}) (.*)", line):
            tag = "h2" if len(heading[1]) == 1 else "h3"
            made += Markup("<{0}>{1}</{0}>").format(tag, _inline(heading[2]))
        elif line.strip():
            made += Markup('<p dir="auto">{}</p>').format(_inline(line))
    return made + Markup("</ul>") if in_list else made


def _inline(text: str) -> Markup:
    made, end = Markup(""), 0
    for match in re.finditer(r"\*\*([^*]+)\*\*|`([^`]+)`", text):
        tag = "strong" if match[1] else "code"
        made += linked(text[end : match.start()])
        made += Markup("<{0}>{1}</{0}>").format(tag, linked(match[1] or match[2]))
        end = match.end()
    return made + linked(text[end:])
