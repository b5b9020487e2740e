"""What a token's scopes allow, in sentences.

Belongs here: https://docs.slack.dev/reference/scopes (read 2026-11), as far as Communicator uses
it. Does not belong here: asking Slack which scopes there are (`asking.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from communicator_pipeline.messages import ChannelKind


class Ability(NamedTuple):
    words: str
    scopes: tuple[str, ...]
    conversations: str = ""  # the type of conversation that it opens


ABILITIES = (
    Ability("read public channels", ("channels:read", "channels:history"), "public_channel"),
    Ability("read private channels", ("groups:read", "groups:history"), "private_channel"),
    Ability("read direct messages", ("im:read", "im:history"), "im"),
    Ability("read group direct messages", ("mpim:read", "mpim:history"), "mpim"),
    Ability("know people's names", ("users:read",)),
    Ability("fetch attached files", ("files:read",)),
    Ability("send replies", ("chat:write",)),
)

KIND_OF_CHANNEL_TYPE: dict[str, ChannelKind] = {
    "channel": "channel",
    "group": "group",
    "mpim": "group",
    "im": "dm",
    "app_home": "dm",
}
"""`channel_type` of an event → kind."""


def split_scopes(header: str | None) -> frozenset[str] | None:
    """The scopes of an `x-oauth-scopes` header; None if Slack named none."""
    if header is None:
        return None
    return frozenset(scope.strip() for scope in header.split(",") if scope.strip())


def can(scopes: frozenset[str] | None) -> tuple[str, ...]:
    if scopes is None:
        return ("do what the token allows (Slack does not say which scopes it has)",)
    return tuple(a.words for a in ABILITIES if scopes.issuperset(a.scopes))


def cannot(scopes: frozenset[str] | None) -> tuple[str, ...]:
    """What is missing, and what to do about it."""
    if scopes is None:
        return ()
    return tuple(
        f"{ability.words}: {_add(missing)}"
        for ability in ABILITIES
        if (missing := [scope for scope in ability.scopes if scope not in scopes])
    )


def readable(scopes: frozenset[str] | None) -> list[Ability]:
    """The types of conversation that can be read; all of them if nothing is known."""
    return [
        ability
        for ability in ABILITIES
        if ability.conversations and (scopes is None or scopes.issuperset(ability.scopes))
    ]


def unreadable(scopes: frozenset[str] | None) -> list[str]:
    """Sentences about the types of conversation that cannot be read."""
    read = readable(scopes)
    return [
        f"{ability.words.removeprefix('read ')} are not read: "
        f"{_add([scope for scope in ability.scopes if scope not in (scopes or ())])}"
        for ability in ABILITIES
        if ability.conversations and ability not in read
    ]


def _add(missing: Iterable[str]) -> str:
    return f"add the scope {' and '.join(missing)} to the app and install it again"
