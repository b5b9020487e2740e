"""Nobody reads or changes what is another's, by any route that the API says it has.

Made of the OpenAPI description, so that a new route cannot be forgotten: one whose parameters are
not known here fails.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.contacts import Contacts
from communicator_pipeline.storage.corrections import Corrections
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.dead_letters import DeadLetters
from communicator_pipeline.storage.feedback import FeedbackLog
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.memories import Memories
from communicator_pipeline.storage.notifications import Targets, Told
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.statistics import Statistics
from communicator_pipeline.storage.triage import Triage
from communicator_pipeline_tests.gateway.api_world import API, Api, Belongings, api_of, furnish

MARK = "quokka"  # stands in all that is ana's
METHODS = ("get", "post", "put", "delete", "patch", "head", "options", "trace")

OF_SOMEBODY = frozenset(
    (
        "account",
        "conversation_id",
        "contact_id",
        "other_contact_id",
        "person_id",
        "approval_id",
        "delivery_id",
        "dead_letter_id",
        "key_id",
        "memory_id",
        "message_id",
        "other",
        "regrouping_id",
        "target_id",
    )
)
"""The parameters that name something that is somebody's."""

ASKED: Mapping[str, Any] = {
    "about": ["invoice"],
    "any_time": True,
    "at": None,
    "choice": "drop it",
    "cursor": None,
    "daily_cap": 5,
    "day": "2026-11-02",
    "days": None,
    "do": "say",
    "everybody": None,
    "holds_for": "everyone",
    "instruction": "",
    "key": "signature",
    "kind": None,
    "language": "en",
    "limit": 100,
    "most": 20,
    "name": "mine",
    "operators": False,
    "platform": None,
    "priority": 40,
    "q": MARK,
    "rest": False,
    "role": "viewer",
    "run": False,
    "scope": "read",
    "seen": None,
    "states": None,
    "text": "Hello.",
    "threshold": 0.9,
    "to": None,
    "user_id": "ana",
    "until": "2099-01-01T00:00:00Z",
    "url": "json://notes.example.org/secret",
    "value": "Bo",
    "view": "all",
    "why": "because",
    "words": "Hello.",
}
"""What the other parameters are asked with; None: left out."""


@dataclass
class Operation:
    """A method of a path, with the names of its parameters by place."""

    method: str
    path: str
    in_path: list[str] = field(default_factory=list)
    in_query: list[str] = field(default_factory=list)
    in_body: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [*self.in_path, *self.in_query, *self.in_body]

    @property
    def of_somebody(self) -> list[str]:
        return [name for name in self.names if name in OF_SOMEBODY]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def operations(app: FastAPI) -> Iterator[Operation]:
    """Every operation of the API; fails for a parameter that is not known here."""
    described = app.openapi()
    for path, methods in described["paths"].items():
        if not path.startswith(API):
            continue
        for method, about in methods.items():
            assert method in METHODS
            found = Operation(method, path)
            for parameter in about.get("parameters", ()):
                {"path": found.in_path, "query": found.in_query}[parameter["in"]].append(
                    parameter["name"]
                )
            body = about.get("requestBody", {}).get("content", {})
            assert set(body) <= {"application/json"}, found
            if body:
                schema = body["application/json"]["schema"]
                found.in_body.extend(_properties(schema, described["components"]["schemas"]))
            unknown = set(found.names) - OF_SOMEBODY - {"category"} - set(ASKED)
            assert not unknown, f"{found} has parameters without an example here: {unknown}"
            yield found


def _properties(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield from _properties(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from _properties(part, schemas)
    yield from schema.get("properties", ())


def ask(api: Api, operation: Operation, ids: Mapping[str, str]) -> Any:
    """Ask with these ids; what has none there is left out."""
    values = {**ASKED, **ids}
    path = operation.path.removeprefix(API)
    for name in operation.in_path:
        path = path.replace(f"{{{name}}}", values[name])

    def given(names: list[str]) -> dict[str, Any]:
        return {name: values[name] for name in names if values.get(name) is not None}

    body = {"json": given(operation.in_body)} if operation.in_body else {}
    if "to" in operation.in_body:
        body["json"]["to"] = None
    return api.ask(operation.method, path, params=given(operation.in_query), **body)


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the database."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {
        table["name"]: [
            tuple(row.values()) for row in database.execute(f'SELECT * FROM "{table["name"]}"')
        ]
        for table in tables
    }


@dataclass
class World:
    """ana's things and bo's, and bo at the API with a key that may write."""

    stores: Stores
    app: FastAPI
    ana: Belongings
    bo: Belongings
    api: Api

    def leaks(self) -> Iterator[str]:
        """All that bo gets, or changes, of what is ana's."""
        ids: Mapping[str, str]
        self.api.ask("GET", "/me")  # notes the key's use, which is no change of anything
        listed = list(operations(self.app))
        for operation in listed:  # reading first: most of what leaks is found there, and soon
            if operation.method != "get":
                continue
            # All that there is, and what is bo's.
            for ids in ({}, self.bo.ids) if not operation.in_path else (self.bo.ids,):
                answer = ask(self.api, operation, ids)
                if answer.status_code != 200:
                    yield f"{operation} shows nothing: {answer.text}"
                if MARK in answer.text:
                    yield f"{operation} shows ana's: {answer.text}"
        for operation in listed:
            for ids in self._foreign(operation):
                yield from self._refused(operation, ids)

    def _foreign(self, operation: Operation) -> Iterator[dict[str, str]]:
        """bo's ids with ana's among them: each alone, and all."""
        for name in operation.of_somebody:
            yield {**self.bo.ids, name: self.ana.ids[name]}
        if operation.of_somebody:
            yield dict(self.ana.ids)
        if "approval_id" in operation.names:  # a delivery's id will do there
            yield {**self.bo.ids, "approval_id": self.ana.ids["delivery_id"]}

    def _refused(self, operation: Operation, ids: dict[str, str]) -> Iterator[str]:
        before = dump(self.stores.database)
        answer = ask(self.api, operation, ids)
        after = dump(self.stores.database)
        if answer.status_code != 404:
            yield f"{operation} with {ids}: {answer.status_code} {answer.text}"
        for table in before:
            if before[table] != after[table]:
                yield f"{operation} with {ids} changed {table}"
        told = _without(answer.text, ids)
        if MARK in told:
            yield f"{operation} with {ids} tells of ana's: {answer.text}"
        # What is there and another's must look like what is not there at all.
        made_up = {
            name: secrets.token_hex(6) if value in self.ana.ids.values() else value
            for name, value in ids.items()
        }
        if _without(ask(self.api, operation, made_up).text, made_up) != told:
            yield f"{operation} with {ids} tells whether ana's exists"


def _without(text: str, ids: Mapping[str, str]) -> str:
    """An answer without what was asked."""
    for asked in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(asked, "…")
    return text


@pytest.fixture
def world(stores: Stores) -> Iterator[World]:
    ana, bo = furnish(stores, "ana", MARK), furnish(stores, "bo", "wombat")
    app = create_app(stores)
    with TestClient(app) as client:  # one event loop for all requests, not one for each
        yield World(stores, app, ana, bo, api_of(stores, "bo", client=client))


def test_nobody_reads_or_changes_what_is_anothers(world: World) -> None:
    assert list(world.leaks()) == []


def test_the_ids_are_good_ones_their_owner_is_never_told_that_there_is_nothing(
    world: World,
) -> None:
    for operation in operations(world.app):
        answer = ask(world.api, operation, world.bo.ids)
        assert answer.status_code in (200, 409), (str(operation), answer.text)


def test_every_name_and_text_of_an_owner_is_marked_and_shown_to_them(world: World) -> None:
    ana = api_of(world.stores, "ana", client=world.api.client)
    for operation in operations(world.app):
        if operation.method == "get":
            answer = ask(ana, operation, world.ana.ids)
            assert MARK in answer.text, str(operation)


def test_no_answer_holds_a_platforms_secret(world: World) -> None:
    ana = api_of(world.stores, "ana", client=world.api.client)
    for operation in operations(world.app):
        assert f"{MARK}-secret-of-the-platform" not in ask(ana, operation, world.ana.ids).text, str(
            operation
        )


def test_a_key_that_may_only_read_changes_nothing(world: World) -> None:
    reader = api_of(world.stores, "bo", "read", world.api.client)
    reader.data("GET", "/me")
    before = dump(world.stores.database)
    for operation in operations(world.app):
        answer = ask(reader, operation, world.bo.ids)
        expected = 200 if operation.method == "get" else 403
        assert answer.status_code == expected, (str(operation), answer.text)
    assert dump(world.stores.database) == before


def test_a_viewer_changes_nothing_of_an_account(world: World) -> None:
    world.stores.database.execute("UPDATE account_members SET role = 'viewer'")
    world.api.data("GET", "/me")
    before = dump(world.stores.database)
    # What is of the user, or only marks something as read.
    own = ("/keys", "/settings", "/notices", "/notifications", "/contacts")
    for operation in operations(world.app):
        if operation.method == "get" or operation.path.removeprefix(API).startswith(own):
            continue
        answer = ask(world.api, operation, world.bo.ids)
        assert answer.status_code in (403, 409), (str(operation), answer.text)
    assert dump(world.stores.database) == before


def test_nobody_is_anybody_without_a_key(world: World) -> None:
    stranger = Api(world.api.client, "ck_000000000000_nothing")
    before = dump(world.stores.database)
    for operation in operations(world.app):
        assert ask(stranger, operation, world.bo.ids).status_code == 401, str(operation)
    assert dump(world.stores.database) == before


# --- the check itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "method"),
    [
        (Accounts, "all"),
        (Contacts, "get"),
        (Contacts, "page"),
        (Contacts, "suggestions"),
        (Corrections, "_must_see"),
        (Corrections, "of_conversation"),
        (Corrections, "undo"),
        (DeadLetters, "get"),
        (DeadLetters, "list"),
        (FeedbackLog, "events"),
        (Inbox, "conversation"),
        (Inbox, "conversations"),
        (Inbox, "message_place"),
        (Inbox, "search"),
        (Memories, "get"),
        (Memories, "list"),
        (Outbox, "deliveries"),
        (Outbox, "get"),
        (Outbox, "notices"),
        (Outbox, "parts"),
        (Outbox, "role"),
        (Outbox, "switches"),
        (Statistics, "usage"),
        (Targets, "all"),
        (Targets, "get"),
        (Targets, "remove"),
        (Told, "log"),
        (Triage, "_must_exist"),
    ],
)
def test_a_reader_that_forgets_whose_it_is_is_caught(
    world: World, monkeypatch: pytest.MonkeyPatch, reader: type, method: str
) -> None:
    filtered = getattr(reader, method)

    def forgetful(self: Any, *args: Any, **more: Any) -> Any:
        try:
            return filtered(reader(self.database, "ana"), *args, **more)
        except LookupError:
            return filtered(self, *args, **more)

    monkeypatch.setattr(reader, method, forgetful)
    assert next(world.leaks(), None)


def test_a_route_with_a_parameter_that_is_not_known_here_is_caught(world: World) -> None:
    more = APIRouter(prefix=API)

    @more.get("/things/{thing_id}")
    def thing(thing_id: str) -> dict[str, str]:
        return {"thing": thing_id}

    world.app.include_router(more)
    world.app.openapi_schema = cast(Any, None)
    with pytest.raises(AssertionError, match="parameters without an example here"):
        list(operations(world.app))
