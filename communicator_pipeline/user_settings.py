"""The settings that a user can change: what each takes, and what a change brings with it.

Belongs here: the table of settings, checking a value, showing all, changing one. Does not belong
here: how they are asked for (`cli/`, the gateway), where they are kept (`storage/settings.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from communicator_pipeline.analysis import Taxonomy
from communicator_pipeline.chain.analyses import taxonomy_of
from communicator_pipeline.delivery.approving import timing_of
from communicator_pipeline.delivery.hours import read_hours
from communicator_pipeline.ingestion.owner import touch_everything
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, account_owner
from communicator_pipeline.storage.settings import Settings

LONGEST_VALUE = 500_000  # bytes of JSON: the categories that Communicator comes with have 38 000

# The ends of both ranges keep every time that is reckoned from them within the calendar.
_Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
_Hours = Annotated[float, Field(gt=0, le=24 * 365, allow_inf_nan=False)]
_PersonId = Annotated[str, Field(min_length=1, max_length=1_000)]
_Signature = Annotated[str, Field(max_length=10_000)]

KINDS: dict[str, tuple[TypeAdapter[Any], str]] = {
    "taxonomy": (TypeAdapter(Taxonomy), "the categories, as `settings show taxonomy` prints them"),
    "priority_people": (
        TypeAdapter(list[_PersonId]),
        "a list of person ids whose messages count more",
    ),
    "signature": (TypeAdapter(_Signature), "what drafts end with"),
    "undo_seconds": (TypeAdapter(_Seconds), "how long an approval can be taken back"),
    "approval_hours": (TypeAdapter(_Hours), "how long an approval holds"),
    "sending_hours": (
        TypeAdapter(dict[str, Any]),
        'when replies go out, {"zone": "Europe/Berlin", "from": "08:00", "to": "18:00", '
        '"days": ["mon", "tue"]}',
    ),
}
"""Setting → what it takes, and the same in words."""

UNDERSTOOD_WITH = ("taxonomy", "priority_people", "signature")
"""A change of these has the user's conversations understood anew."""


class NotAValue(ValueError):
    """The setting does not take this; the message says what it takes."""


def check(key: str, value: Any) -> Any:
    """The value as it is kept; raises `NotAValue`, and `NotFound` if there is no such setting."""
    if key not in KINDS:
        raise NotFound(f"there is no setting {key!r} (there are: {', '.join(KINDS)})")
    kind, words = KINDS[key]
    try:
        # What JSON cannot carry (half a character, a number without end) cannot be kept either.
        size = len(orjson.dumps(value))
        if size > LONGEST_VALUE:
            raise ValueError(f"it has {size} bytes, {LONGEST_VALUE} can be kept")
        if _holds_nul(value):
            raise ValueError("it holds a NUL character, which no text may")
        checked = kind.validate_python(value)
        if key == "sending_hours":
            read_hours(checked)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:5]
        )
        raise NotAValue(f"{key} should be JSON: {words}. {found}") from None
    except (TypeError, ValueError) as error:
        raise NotAValue(f"{key} should be JSON: {words}. {error}") from None
    return kind.dump_python(checked)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_holds_nul, value))


def change(stores: Stores, user_id: str, key: str, value: Any) -> int:
    """Set a value. Returns how many days are to be understood anew: those of the accounts for
    which this user's settings hold. Raises as `check` does."""
    checked = check(key, value)
    days = sum(
        touch_everything(stores, account.account, f"the setting {key} was changed")
        for account in Accounts(stores.database, user_id).all()
        if key in UNDERSTOOD_WITH and account_owner(stores.database, account.account) == user_id
    )
    Settings(stores.database, user_id).set(key, checked)
    return days


def values(stores: Stores, user_id: str) -> dict[str, Any]:
    """All settings of a user, defaults included."""
    settings, timing = Settings(stores.database, user_id), timing_of(stores.database, user_id)
    return {
        "taxonomy": taxonomy_of(settings).model_dump(),
        "priority_people": sorted(settings.priority_people()),
        "signature": settings.signature() or "",
        "undo_seconds": timing.undo_window.total_seconds(),
        "approval_hours": timing.expires_after.total_seconds() / 3600,
        "sending_hours": settings.get("sending_hours"),
    }
