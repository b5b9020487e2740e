"""The settings that a user can change: what each takes, and what a change brings with it.

Belongs here: the table of settings, checking a value, showing all, changing one. Does not belong
here: how they are asked for (`cli/`, the gateway), where they are kept (`storage/settings.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from communicator_pipeline.analysis import Taxonomy
from communicator_pipeline.chain.usage import ALERT_SETTING
from communicator_pipeline.chain.variants import taxonomy_of, withholding_of
from communicator_pipeline.delivery.approving import timing_in
from communicator_pipeline.delivery.hours import read_hours
from communicator_pipeline.delivery.recovery import quiet_period
from communicator_pipeline.ingestion.owner import touch_everything
from communicator_pipeline.language_model.model import BUDGET_SETTING
from communicator_pipeline.language_model.withholding import Withholding
from communicator_pipeline.notifying.addresses import PRIVATE_SETTING, private_allowed
from communicator_pipeline.notifying.telling import public_url
from communicator_pipeline.notifying.when import read_quiet, read_time, read_zone
from communicator_pipeline.retention_settings import RETENTION_SETTING, Retention, read_retention
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, account_owner
from communicator_pipeline.storage.settings import Settings

LONGEST_VALUE = 500_000  # bytes of JSON: the categories that Communicator comes with have 38 000

# The ends of both ranges keep every time that is reckoned from them within the calendar.
_Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
_Hours = Annotated[float, Field(gt=0, le=24 * 365, allow_inf_nan=False)]
_PersonId = Annotated[str, Field(min_length=1, max_length=1_000)]
_Signature = Annotated[str, Field(max_length=10_000)]
_Zone = Annotated[str, AfterValidator(lambda name: read_zone(name).key)]
_TimeOfDay = Annotated[str, AfterValidator(lambda text: text and f"{read_time(text):%H:%M}")]
_Language = Annotated[str, Field(pattern="^[a-z]{2}$")]
_Tone = Annotated[str, Field(max_length=300)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Id = Annotated[str, Field(min_length=1, max_length=1_000)]
_Priority = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_PublicUrl = Annotated[str, Field(max_length=300, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]


_NoDraft = Annotated[
    dict[Literal["account", "category", "channel_id", "person_id"], _Id], Field(min_length=1)
]
"""Which conversations get no draft: those for which everything in it holds."""

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
    "zone": (TypeAdapter(_Zone), "your time zone, as Europe/Berlin"),
    "languages": (
        TypeAdapter(Annotated[list[_Language], Field(max_length=20)]),
        'the languages that you read and write, ["en", "de"]: two letters each (ISO 639-1)',
    ),
    "tone": (TypeAdapter(_Tone), "how drafts are to sound: short, friendly, first names"),
    "never_draft": (
        TypeAdapter(Annotated[list[_NoDraft], Field(max_length=200)]),
        'which conversations get no draft, [{"category": "newsletter"}, {"account": "work", '
        '"person_id": "U1"}]: a rule takes account, category, channel_id, person_id',
    ),
    "digest_at": (
        TypeAdapter(_TimeOfDay),
        "when you are sent the day's digest, 08:00 in your time zone; empty: never",
    ),
    "notify": (
        TypeAdapter(Annotated[list[_Name], Field(max_length=20)]),
        'which of your notification targets are told, ["phone"]; if it is not set, all of them',
    ),
    "quiet_hours": (
        TypeAdapter(dict[str, Any]),
        'when you are told of nothing, {"from": "22:00", "to": "07:00", "days": ["mon", "tue"]} in '
        "your time zone; days: on which it begins",
    ),
    "urgent_priority": (
        TypeAdapter(_Priority),
        "from which priority on you are told at once that a conversation needs a reply, 0 to 100",
    ),
    "withhold": (
        TypeAdapter(Withholding),
        'what no language model is shown, {"secrets": "redact", "cards": "redact", "personal": '
        '"block", "patterns": [{"name": "case", "match": "CASE-####", "action": "redact"}]}: '
        "allow, redact or block",
    ),
    BUDGET_SETTING: (
        TypeAdapter(Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]),
        "USD that language models may cost you in a day (UTC)",
    ),
}
"""Setting → what it takes, and the same in words."""

INSTALLATION: dict[str, tuple[TypeAdapter[Any], str]] = {
    "public_url": (
        TypeAdapter(_PublicUrl),
        "where the inbox is reached, https://inbox.example.org",
    ),
    PRIVATE_SETTING: (
        TypeAdapter(bool),
        "whether notifications may go to private addresses: true or false",
    ),
    "quiet_seconds": (
        TypeAdapter(_Seconds),
        "how long after a lost answer nothing is decided about a reply",
    ),
    BUDGET_SETTING: (
        TypeAdapter(Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]),
        "USD that language models may cost anybody in a day (UTC)",
    ),
    ALERT_SETTING: (
        TypeAdapter(Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]),
        "USD of Cloudflare's services in a day (UTC) beyond which a check warns",
    ),
    RETENTION_SETTING: (
        TypeAdapter(Retention),
        'how long is kept what may go, {"runs_days": 30, "failed_runs_days": 14}: what is not '
        f"named is as it was at first; there are {', '.join(Retention.model_fields)}",
    ),
}
"""The same of what holds for everybody, and whoever has the shell can set."""

UNDERSTOOD_WITH = ("taxonomy", "priority_people", "signature", "tone", "never_draft", "languages")
"""A change of these has the user's conversations understood anew. Of the last four only drafts
differ: what is analysed stays as it is."""


class NotAValue(ValueError):
    """The setting does not take this; the message says what it takes."""


def check(key: str, value: Any, installation: bool = False) -> Any:
    """The value as it is kept; raises `NotAValue`, and `NotFound` if there is no such setting."""
    kind, words = _kind(key, installation)
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
        if key == "quiet_hours":
            read_quiet(checked, read_zone("UTC"))
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:5]
        )
        raise NotAValue(f"{key} should be JSON: {words}. {found}") from None
    except (TypeError, ValueError) as error:
        raise NotAValue(f"{key} should be JSON: {words}. {error}") from None
    return kind.dump_python(checked, mode="json")


def _kind(key: str, installation: bool = False) -> tuple[TypeAdapter[Any], str]:
    kinds = INSTALLATION if installation else KINDS
    if key not in kinds:
        raise NotFound(f"there is no setting {key!r} (there are: {', '.join(kinds)})")
    return kinds[key]


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
    days = _touch(stores, user_id, key)
    Settings(stores.database, user_id).set(key, checked)
    _touch(stores, user_id, key)  # a run that took the first mark in between has read the old one
    return days


def unset(stores: Stores, user_id: str, key: str) -> int:
    """Go back to a setting's default. Returns as `change` does; raises `NotFound`."""
    _kind(key)
    settings = Settings(stores.database, user_id)
    if settings.get(key) is None:
        return 0
    days = _touch(stores, user_id, key)
    settings.unset(key)
    _touch(stores, user_id, key)
    return days


def _touch(stores: Stores, user_id: str, key: str) -> int:
    if key not in UNDERSTOOD_WITH:
        return 0
    return sum(
        touch_everything(stores, account.account, f"the setting {key} was changed")
        for account in Accounts(stores.database, user_id).all()
        if account_owner(stores.database, account.account) == user_id
    )


def change_installation(stores: Stores, key: str, value: Any) -> None:
    """Set what holds for everybody. Raises as `check` does."""
    Settings(stores.database, None).set(key, check(key, value, installation=True))


def unset_installation(stores: Stores, key: str) -> None:
    """Go back to the default of what holds for everybody; raises `NotFound`."""
    _kind(key, installation=True)
    Settings(stores.database, None).unset(key)


def values(stores: Stores, user_id: str) -> dict[str, Any]:
    """All settings of a user, defaults included."""
    return values_of(Settings(stores.database, user_id).at_once())


def values_of(settings: Settings) -> dict[str, Any]:
    """The same, of settings that were read already."""
    timing = timing_in(settings)
    return {
        "taxonomy": taxonomy_of(settings).model_dump(),
        "priority_people": sorted(settings.priority_people()),
        "signature": settings.signature() or "",
        "undo_seconds": timing.undo_window.total_seconds(),
        "approval_hours": timing.expires_after.total_seconds() / 3600,
        "sending_hours": settings.get("sending_hours"),
        "zone": settings.zone(),
        "languages": settings.languages(),
        "tone": settings.tone(),
        "never_draft": settings.never_draft(),
        "digest_at": settings.digest_at(),
        "notify": settings.notify(),
        "quiet_hours": settings.get("quiet_hours"),
        "urgent_priority": settings.urgent_priority(),
        "withhold": withholding_of(settings).model_dump(),
        BUDGET_SETTING: settings.get(BUDGET_SETTING),
    }


def installation_values(stores: Stores) -> dict[str, Any]:
    """All that holds for everybody, defaults included."""
    return {
        "public_url": public_url(stores.database),
        PRIVATE_SETTING: private_allowed(stores.database),
        "quiet_seconds": quiet_period(stores.database).total_seconds(),
        BUDGET_SETTING: Settings(stores.database, None).get(BUDGET_SETTING),
        ALERT_SETTING: Settings(stores.database, None).get(ALERT_SETTING),
        RETENTION_SETTING: read_retention(stores.database).model_dump(),
    }
