"""Adding a notification target: what is asked of it before it is kept.

Belongs here: the checks, and the decision who may have what. Does not belong here: which addresses
are taken (`addresses.py`), keeping them (`storage/notifications.py`).
"""

from __future__ import annotations

from datetime import datetime

from communicator_pipeline.notifying.addresses import private_allowed, shown
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import get_user
from communicator_pipeline.storage.notifications import Targets


def add_target(
    stores: Stores, user_id: str, name: str, url: str, operators: bool, now: datetime
) -> str:
    """Keep a target of the user's; returns its id. Raises `ValueError` (`NotAnAddress` among them)
    and, for who is no administrator and wants to hear of the installation, `PermissionError`."""
    plain = " ".join(name.split())
    if not plain:
        raise ValueError("give the target a name, by which you will know it")
    if operators and not get_user(stores.database, user_id).is_admin:
        raise PermissionError("only administrators are told of the installation")
    what = shown(url.strip(), private_allowed(stores.database))
    targets = Targets(stores.database, user_id)
    return targets.add(stores.keys, plain, url.strip(), what, operators, now)
