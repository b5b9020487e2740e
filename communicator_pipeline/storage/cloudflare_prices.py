"""What Cloudflare's services cost, and what was used costs.

Belongs here: the price list and the arithmetic. Does not belong here: counting (`metering.py`).

List prices of the plan Workers Paid in USD, as of `AS_OF`; each names the page that it was read
from. Months are Cloudflare's billing months: here, calendar months (UTC). R2 rounds what is beyond
its free amounts up to the next million or GB (https://developers.cloudflare.com/r2/pricing/); that
is not done here, so a bill can be up to $4.86 above what is reckoned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from communicator_pipeline.storage.metering import Used

AS_OF = "2026-11"

SUBSCRIPTION_USD = 5.0
"""A month of Workers Paid: https://developers.cloudflare.com/workers/platform/pricing/."""

DAYS = 30  # of a month, for what is free by the day

_D1 = "https://developers.cloudflare.com/d1/platform/pricing/"
_R2 = "https://developers.cloudflare.com/r2/pricing/"
_KV = "https://developers.cloudflare.com/kv/platform/pricing/"
_QUEUES = "https://developers.cloudflare.com/queues/platform/pricing/"
_WORKERS = "https://developers.cloudflare.com/workers/platform/pricing/"
_AI = "https://developers.cloudflare.com/workers-ai/platform/pricing/"
MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """What `per` units cost, and how many are free in a month, for the whole installation."""

    service: str
    what: str
    usd: float
    per: int
    free: float
    source: str
    free_a_day: bool = False  # whether `free` holds for each day by itself


PRICES = (
    Price("d1", "rows read", 0.001, MILLION, 25_000 * MILLION, _D1),
    Price("d1", "rows written", 1.0, MILLION, 50 * MILLION, _D1),
    Price("d1", "GB-months", 0.75, 1, 5, _D1),
    Price("r2", "class a", 4.5, MILLION, MILLION, _R2),
    Price("r2", "class b", 0.36, MILLION, 10 * MILLION, _R2),
    Price("r2", "GB-months", 0.015, 1, 10, _R2),
    Price("kv", "reads", 0.5, MILLION, 10 * MILLION, _KV),
    Price("kv", "writes", 5.0, MILLION, MILLION, _KV),
    Price("kv", "deletes", 5.0, MILLION, MILLION, _KV),
    Price("kv", "lists", 5.0, MILLION, MILLION, _KV),
    Price("kv", "GB-months", 0.5, 1, 1, _KV),
    Price("queues", "operations", 0.4, MILLION, MILLION, _QUEUES),
    Price("workers", "requests", 0.3, MILLION, 10 * MILLION, _WORKERS),
    Price("workers ai", "neurons", 0.011, 1_000, 10_000, _AI, free_a_day=True),
)
"""What is counted and not here (bytes, calls of the REST API) costs nothing."""

_PRICES = {(price.service, price.what): price for price in PRICES}


@dataclass(frozen=True)
class Priced:
    """What was used, and what it costs at list price, nothing free."""

    day: str
    account: str
    service: str
    what: str
    count: float
    usd: float


def list_price(service: str, what: str, count: float) -> float:
    """USD of so many, nothing free; 0 for what is not on the list."""
    price = _PRICES.get((service, what))
    return count / price.per * price.usd if price else 0.0


def priced(used: Iterable[Used]) -> list[Priced]:
    """Each with its list price. Free amounts are the installation's, not an account's: what an
    account costs is the same whoever came first in the month."""
    return [
        Priced(
            one.day,
            one.account,
            one.service,
            one.what,
            one.count,
            list_price(one.service, one.what, one.count),
        )
        for one in used
    ]


@dataclass(frozen=True)
class Billed:
    """A service's unit in a month, for the whole installation."""

    month: str
    service: str
    what: str
    count: float
    free: float  # so many of them
    list_usd: float  # nothing free
    usd: float  # beyond what is free


def billed(used: Iterable[Used]) -> list[Billed]:
    """What a month costs beyond the free amounts, of everybody together, by service. The
    subscription is not among it. Give whole months: the free amounts are taken off each."""
    by_day: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in used:
        by_day[one.day[:7], one.service, one.what][one.day] += one.count
    return [_billed(*key, list(days.values())) for key, days in sorted(by_day.items())]


def _billed(month: str, service: str, what: str, days: Sequence[float]) -> Billed:
    price = _PRICES.get((service, what))
    count = sum(days)
    if price is None:
        return Billed(month, service, what, count, count, 0.0, 0.0)
    free = sum(min(day, price.free) for day in days) if price.free_a_day else price.free
    free = min(count, free)
    return Billed(
        month,
        service,
        what,
        count,
        free,
        list_price(service, what, count),
        list_price(service, what, count - free),
    )
