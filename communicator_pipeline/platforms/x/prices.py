"""What X asks for a call, in US dollars.

Belongs here: the price list, and what a page of results costs by it. Does not belong here: what may
be spent (the account's `cap_usd`, kept by `ingestion/pull.py`).

https://docs.x.com/x-api/getting-started/pricing (read 2026-11): pay per use, per object that an
answer holds; an object that is read again within a UTC day is free, "a soft guarantee". The console
of the app has the prices that hold. Not counted, because the price list does not say: people and
media that come along with a post (a look-up of a person costs 0.010), and events that are pushed.
"""

from __future__ import annotations

from collections.abc import Collection

OWNED_READ = 0.001  # the owner's own posts, and posts that mention them
POST_READ = 0.005
DIRECT_MESSAGE_READ = 0.010
POST = 0.015
POST_WITH_LINK = 0.200
DIRECT_MESSAGE = 0.015


def affordable(budget_usd: float | None, spent_usd: float, each: float, most: int) -> int:
    """How many objects may be asked for, at most `most`: the worst case must fit the budget."""
    if budget_usd is None:
        return most
    # A thousandth of a cent keeps sums of floating-point prices from losing an object.
    return max(0, min(most, int((budget_usd - spent_usd + 1e-5) / each)))


def cost(ids: Collection[str], billed: Collection[str], each: float) -> float:
    """The price of what an answer holds, without what was billed already that day."""
    return round(len(set(ids) - set(billed)) * each, 6)
