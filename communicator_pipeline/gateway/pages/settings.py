"""The settings page: a form for each setting, where one is told, taking one's data along.

Belongs here: what the page shows, reading what was typed, saving it. Does not belong here: what a
setting takes (`user_settings.py`), which addresses are taken (`notifying/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import orjson
from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import StreamingResponse

from communicator_pipeline import user_settings
from communicator_pipeline.delivery.hours import WEEKDAYS
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.gateway.pages.rendering import page
from communicator_pipeline.gateway.pages.together import Together
from communicator_pipeline.notifying.addresses import LONGEST_ADDRESS
from communicator_pipeline.notifying.targets import add_target
from communicator_pipeline.notifying.telling import try_target
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.export import export, export_name
from communicator_pipeline.storage.notifications import Targets, Told
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.user_settings import NotAValue

router = APIRouter(include_in_schema=False)

LAST_TOLD = 10
"""Notifications that the page shows."""

Kind = Literal["number", "text", "line", "words", "zone", "time", "hours", "targets", "json"]

_KINDS: Mapping[str, Kind] = {
    "signature": "text",
    "undo_seconds": "number",
    "approval_hours": "number",
    "zone": "zone",
    "languages": "words",
    "tone": "line",
    "digest_at": "time",
    "notify": "targets",
    "quiet_hours": "hours",
    "urgent_priority": "number",
    "model_budget_usd": "number",
}
"""How a setting is asked for; all others as JSON."""

_NAMES: Mapping[str, str] = {
    "taxonomy": "Categories",
    "priority_people": "People who count more",
    "signature": "Signature",
    "undo_seconds": "Seconds to undo an approval",
    "approval_hours": "Hours that an approval holds",
    "sending_hours": "Sending hours",
    "zone": "Time zone",
    "languages": "Languages",
    "tone": "Tone of drafts",
    "never_draft": "No drafts for",
    "digest_at": "Daily digest",
    "notify": "Targets in use",
    "quiet_hours": "Quiet hours",
    "urgent_priority": "Urgent from this priority on",
    "withhold": "Never shown to a language model",
    "model_budget_usd": "USD a day for language models",
}

_SAID: Mapping[str, str] = {
    "model_budget_usd": "USD that language models may cost you in a day (UTC); empty: no limit of "
    "your own",
    "languages": "the languages that you read and write, with spaces between them: en de uk",
    "digest_at": "when you are sent the day's digest, in your time zone; empty: never",
    "notify": "which of your targets are told; if you choose none, you are told of nothing",
    "quiet_hours": "when you are told of nothing, in your time zone: it waits until they end. The "
    "days are those on which they begin. Without times you are told at any time",
}
"""Words beside a field that is not typed as JSON; else those of the setting."""

_ORDER = (
    "zone languages signature tone never_draft digest_at urgent_priority quiet_hours notify "
    "undo_seconds approval_hours sending_hours model_budget_usd withhold priority_people "
    "taxonomy".split()
)


@dataclass(frozen=True)
class Field:
    """A setting's form."""

    key: str
    name: str
    words: str
    kind: Kind
    value: str
    first: str = ""  # of hours
    last: str = ""
    chosen: Sequence[str] = ()  # days, or names of targets
    error: str = ""
    saved: str = ""


@router.get("/settings")
def settings_page(request: Request, opened: Opened, identity: Reader) -> Response:
    """A form for each setting, and the notification targets."""
    return _page(request, opened, identity)


@router.post("/settings/{key}")
def save_setting(
    request: Request,
    opened: Opened,
    identity: Writer,
    key: Annotated[str, Path(max_length=60)],
    value: Annotated[str, Form(max_length=2 * user_settings.LONGEST_VALUE)] = "",
    first: Annotated[str, Form(max_length=20)] = "",
    last: Annotated[str, Form(max_length=20)] = "",
    chosen: Annotated[list[str], Form(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Save one, and show the page anew: the browser takes that setting's form from it."""
    given = Field(key, "", "", _kind(key), value.replace("\r\n", "\n"), first, last, chosen)
    try:
        days = _save(opened, identity.user_id, given)
    except NotAValue as refused:
        return _refused(request, opened, identity, given, str(refused))
    _note(opened, identity, "changed a setting", key)
    return _page(request, opened, identity, key, saved=f"Saved.{_anew(days)}")


@router.post("/settings/{key}/unset")
def unset_setting(
    request: Request,
    opened: Opened,
    identity: Writer,
    key: Annotated[str, Path(max_length=60)],
) -> Response:
    """Go back to the default."""
    days = user_settings.unset(opened, identity.user_id, key)
    _note(opened, identity, "unset a setting", key)
    return _page(request, opened, identity, key, saved=f"As it was at first.{_anew(days)}")


def _save(opened: Stores, user_id: str, given: Field) -> int:
    no_hours = given.kind == "hours" and not given.first and not given.last
    no_limit = given.key == "model_budget_usd" and not given.value.strip()
    if no_hours or no_limit:
        return user_settings.unset(opened, user_id, given.key)
    return user_settings.change(opened, user_id, given.key, _read(given))


def _anew(days: int) -> str:
    if not days:
        return ""
    return f" Understood anew with the next run: {days} day{'s' if days > 1 else ''}."


def _kind(key: str) -> Kind:
    return _KINDS.get(key, "json")


def _read(given: Field) -> Any:
    """What was typed, as the value that the setting takes."""
    if given.key not in user_settings.KINDS:
        return given.value
    if given.kind == "words":
        return given.value.replace(",", " ").split()
    if given.kind == "hours":
        return {"from": given.first, "to": given.last, "days": list(given.chosen)}
    if given.kind == "targets":
        return list(given.chosen)
    if given.kind not in ("number", "json"):
        return given.value
    try:
        return float(given.value) if given.kind == "number" else orjson.loads(given.value)
    except ValueError as error:
        if given.kind == "number":
            raise NotAValue(f"{given.value!r} is no number.") from None
        raise NotAValue(f"This is not JSON: {error}.") from None


def _refused(
    request: Request, opened: Stores, identity: Identity, given: Field, error: str
) -> Response:
    # The pages show what has an error's status as a toast; this stands beside its field.
    status = 200 if request.headers.get("hx-request") else 422
    return _page(request, opened, identity, given.key, given, error, status=status)


def _page(
    request: Request,
    opened: Stores,
    identity: Identity,
    key: str = "",
    typed: Field | None = None,
    error: str = "",
    saved: str = "",
    status: int = 200,
    target: Mapping[str, str] | None = None,
) -> Response:
    """The page; `key`, `typed`, `error`, `saved`: what was just done with a setting; `target`: what
    was just done with the notification targets."""
    user, together = identity.user_id, Together(opened.database)
    kept = together.add(lambda database: Settings(database, user).at_once())
    owned = together.add(lambda database: Targets(database, user).all())
    told = together.add(lambda database: Told(database, user).log(None, LAST_TOLD))
    together.ask()
    values, targets = user_settings.values_of(kept.value), owned.value
    if values["notify"] is None:
        values["notify"] = [one["name"] for one in targets]
    fields = [
        _field(one, values[one], typed if one == key else None, key, error, saved) for one in _ORDER
    ]
    return page(
        request,
        "settings.html",
        identity,
        status,
        fields=fields,
        zones=sorted(available_timezones()) if any(f.kind == "zone" for f in fields) else [],
        days=WEEKDAYS,
        targets=targets,
        told=told.value,
        said={"error": "", "saved": "", "name": "", **(target or {})},
    )


def _field(
    key: str, value: Any, typed: Field | None, done_with: str, error: str, saved: str
) -> Field:
    shown = typed or _written(key, value)
    return Field(
        key,
        _NAMES[key],
        _SAID.get(key, user_settings.KINDS[key][1]),
        _kind(key),
        shown.value,
        shown.first,
        shown.last,
        shown.chosen,
        error if key == done_with else "",
        saved if key == done_with else "",
    )


def _written(key: str, value: Any) -> Field:
    """A value as one types it; empty where none is set."""
    kind, text = _kind(key), ""
    if kind == "hours":
        hours = value or {}
        days = hours.get("days", WEEKDAYS)
        return Field(key, "", "", kind, "", hours.get("from", ""), hours.get("to", ""), days)
    if kind == "targets":
        return Field(key, "", "", kind, "", chosen=value)
    if kind == "words":
        text = " ".join(value)
    elif kind == "number":
        text = "" if value is None else f"{value:.10g}"
    elif kind == "json":
        text = "" if value is None else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    else:
        text = value
    return Field(key, "", "", kind, text)


# --- notification targets --------------------------------------------------------------------

TargetId = Annotated[str, Path(max_length=200)]


@router.post("/settings/notifications/targets")
def new_target(
    request: Request,
    opened: Opened,
    identity: Writer,
    name: Annotated[str, Form(max_length=100)] = "",
    url: Annotated[str, Form(max_length=LONGEST_ADDRESS)] = "",
    operators: Annotated[bool, Form()] = False,
) -> Response:
    """Add one. What was typed as its address is never shown again, also not after an error."""
    try:
        target_id = add_target(opened, identity.user_id, name, url, operators, datetime.now(UTC))
    except ValueError as refused:
        status = 200 if request.headers.get("hx-request") else 422
        said = {"error": str(refused), "name": name}
        return _page(request, opened, identity, status=status, target=said)
    _note(opened, identity, "added a notification target", target_id)
    return _page(request, opened, identity, target={"saved": f"{name} is added. Try it."})


@router.post("/settings/notifications/targets/{target_id}/test")
def try_one(request: Request, opened: Opened, identity: Writer, target_id: TargetId) -> Response:
    """Send a test message."""
    name = Targets(opened.database, identity.user_id).get(target_id, opened.keys).name
    trouble = try_target(opened, identity.user_id, target_id, datetime.now(UTC))
    _note(opened, identity, "tried a notification target", target_id)
    said = (
        {"error": f"{name} did not take the message: {trouble}."}
        if trouble
        else {"saved": f"{name} took the message."}
    )
    return _page(request, opened, identity, target=said)


@router.post("/settings/notifications/targets/{target_id}/remove")
def remove_target(
    request: Request, opened: Opened, identity: Writer, target_id: TargetId
) -> Response:
    """Forget one."""
    name = Targets(opened.database, identity.user_id).remove(target_id)
    _note(opened, identity, "removed a notification target", target_id)
    return _page(request, opened, identity, target={"saved": f"{name} is removed."})


# --- taking one's data -----------------------------------------------------------------------


@router.get("/settings/export")
def export_own_data(opened: Opened, identity: Reader) -> StreamingResponse:
    """All that is the user's, as a file."""
    return StreamingResponse(
        export(opened.database, identity.user_id),
        media_type="application/x-ndjson",
        headers={
            "Content-Disposition": f'attachment; filename="{export_name(identity.user_id)}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


def _note(opened: Stores, identity: Identity, action: str, target: str) -> None:
    audit.note(
        opened.database,
        identity.user_id,
        action,
        datetime.now(UTC),
        target=target,
        via=identity.via,
    )
