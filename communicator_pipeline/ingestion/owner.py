"""Who "me" is in an account, and understanding everything anew when that was somebody else."""

from __future__ import annotations

from collections.abc import Iterable

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Account, Accounts
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.work import WorkQueue


def set_owner(
    stores: Stores, accounts: Accounts, account: Account, ids: Iterable[str]
) -> tuple[Account, int]:
    """Set the owner's person ids. Returns the account, and how many days with messages were
    marked because of it: none if nothing changed.

    The days are marked first: killed in between, they are understood anew for nothing, which is
    better than never.
    """
    me = frozenset(ids)
    if me == account.me:
        return account, 0
    days = touch_everything(stores, account.account, "the owner was corrected")
    changed = accounts.set_me(account.account, me)
    # Once more: a run that took the first mark in between has read the owner of before.
    touch_everything(stores, account.account, "the owner was corrected")
    return changed, days


def touch_everything(stores: Stores, account: str, why: str) -> int:
    """Mark every day of the account that has messages; returns how many."""
    days = [
        day
        for month in stores.lake.months("raw_messages", account)
        for day in stores.lake.manifest("raw_messages", AccountMonth(account, month)).days
    ]
    WorkQueue(stores.database).mark(account, days, why)
    return len(days)
