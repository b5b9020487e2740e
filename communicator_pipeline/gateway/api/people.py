"""Who asks, their API keys, their settings, and the audit log.

Belongs here: those routes. Does not belong here: how keys are kept (`storage/sign_in.py`), what a
setting takes (`user_settings.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from communicator_pipeline import user_settings
from communicator_pipeline.gateway.api.answers import (
    Entry,
    Key,
    Me,
    NewKey,
    OwnAccount,
    Scope,
    SettingChanged,
    SettingValues,
)
from communicator_pipeline.gateway.api.asking import Asked, KeyId, Limit, Plain, note
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer, Page
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, users
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.database import LARGEST_INTEGER
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.sign_in import keys_of, make_key, revoke_key

routes = api_routes()


@routes.get("/me", tags=["people"])
def me(opened: Opened, identity: Reader) -> Answer[Me]:
    """Who asks, and the accounts that are theirs."""
    name = next(u.name for u in users(opened.database) if u.user_id == identity.user_id)
    return Answer(
        data=Me(
            user_id=identity.user_id,
            name=name,
            is_admin=identity.is_admin,
            may_write=identity.may_write,
            csrf=identity.csrf or None,
            accounts=own_accounts(opened, identity),
        )
    )


def own_accounts(opened: Stores, identity: Identity) -> list[OwnAccount]:
    """The user's accounts, with what they may do in each."""
    outbox = Outbox(opened.database, identity.user_id)
    return [
        OwnAccount.model_validate(
            {
                "account": found.account,
                "platform": found.platform,
                "name": found.name,
                "role": outbox.role(found.account),
            }
        )
        for found in Accounts(opened.database, identity.user_id).all()
    ]


# --- keys ------------------------------------------------------------------------------------


class KeyAsked(Asked):
    """A key that is to be made."""

    name: Annotated[str, Field(min_length=1, max_length=100), Plain]
    scope: Scope = "read"


@routes.get("/keys", tags=["keys"])
def list_keys(opened: Opened, identity: Reader) -> Answer[list[Key]]:
    """The user's API keys, revoked ones too, the newest first."""
    rows = keys_of(opened.database, identity.user_id)
    return Answer(data=[Key.model_validate(row) for row in rows])


@routes.post("/keys", tags=["keys"])
def add_key(opened: Opened, identity: Writer, asked: KeyAsked) -> Answer[NewKey]:
    """Make an API key. It is shown this once."""
    key = make_key(opened.database, identity.user_id, asked.name, asked.scope, datetime.now(UTC))
    key_id = key.split("_")[1]
    note(opened, identity, "made a key", target=key_id, detail=f"{asked.scope}: {asked.name}")
    return Answer(data=NewKey(key_id=key_id, key=key))


@routes.delete("/keys/{key_id}", tags=["keys"])
def remove_key(opened: Opened, identity: Writer, key_id: KeyId) -> Answer[list[Key]]:
    """Revoke a key, from the next request on; the keys after it."""
    revoke_key(opened.database, identity.user_id, key_id, datetime.now(UTC))
    note(opened, identity, "revoked a key", target=key_id)
    return list_keys(opened, identity)


# --- settings --------------------------------------------------------------------------------

SettingKey = Annotated[
    str,
    Path(max_length=60, description=f"One of {', '.join(user_settings.KINDS)}."),
    Plain,
]


class SettingAsked(Asked):
    """A setting's new value: what it takes depends on the setting."""

    value: Any


@routes.get("/settings", tags=["settings"])
def read_settings(opened: Opened, identity: Reader) -> Answer[SettingValues]:
    """The user's settings, defaults included."""
    return Answer(data=_settings(opened, identity))


@routes.put("/settings/{key}", tags=["settings"])
def change_setting(
    opened: Opened, identity: Writer, key: SettingKey, asked: SettingAsked
) -> Answer[SettingChanged]:
    """Change a setting. Where conversations are understood with it, their days are marked."""
    days = user_settings.change(opened, identity.user_id, key, asked.value)
    note(opened, identity, "changed a setting", target=key)
    return Answer(
        data=SettingChanged(settings=_settings(opened, identity), days_to_materialize=days)
    )


@routes.delete("/settings/{key}", tags=["settings"])
def unset_setting(opened: Opened, identity: Writer, key: SettingKey) -> Answer[SettingChanged]:
    """Go back to a setting's default, which may differ between versions."""
    days = user_settings.unset(opened, identity.user_id, key)
    note(opened, identity, "unset a setting", target=key)
    return Answer(
        data=SettingChanged(settings=_settings(opened, identity), days_to_materialize=days)
    )


def _settings(opened: Stores, identity: Identity) -> SettingValues:
    return SettingValues.model_validate(user_settings.values(opened, identity.user_id))


# --- audit -----------------------------------------------------------------------------------


@routes.get("/audit", tags=["audit"])
def read_audit(
    opened: Opened,
    identity: Reader,
    limit: Limit = 100,
    cursor: Annotated[
        int | None, Query(ge=1, le=LARGEST_INTEGER, description="`next` of the page before.")
    ] = None,
) -> Answer[Page[Entry]]:
    """Who did what, the newest first: what the user did, and what others did in accounts that the
    user owns; for an administrator all of it."""
    rows = audit_log(opened.database, identity.user_id, cursor, limit + 1)
    items = [Entry.model_validate(row) for row in rows[:limit]]
    more = str(items[-1].id) if len(rows) > limit else None
    return Answer(data=Page(items=items, next=more))
