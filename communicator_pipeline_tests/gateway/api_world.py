"""What the API's tests share: two people with accounts of their own, and one of each thing in them.

Belongs here: filling real stores so that every route finds something. Does not belong here: what a
route must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from fastapi.testclient import TestClient

from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.delivery.approving import approve, undo
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.language_model import keeping
from communicator_pipeline.language_model.asking import Usage
from communicator_pipeline.language_model.keeping import Spent
from communicator_pipeline.messages import MESSAGE_SCHEMA
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.accounts import Accounts, Person, add_user, know_people
from communicator_pipeline.storage.contacts import Contacts
from communicator_pipeline.storage.corrections import Corrections
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.dead_letters import DeadLetter, DeadLetters, bury
from communicator_pipeline.storage.draft_versions import DraftVersion, keep_redraft
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.memories import Memories
from communicator_pipeline.storage.notifications import Notice, Targets, notice
from communicator_pipeline.storage.outbox import Outbox, raise_notice
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.sign_in import keys_of, make_key
from communicator_pipeline_tests.delivery.world import say

API = "/api/v1"
ASKED_AT = datetime.now(UTC) - timedelta(minutes=5)


class Api:
    """The API as one user's key sees it."""

    def __init__(self, client: TestClient, key: str) -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return self.client.request(method, API + path, headers=self.headers, **more)

    def data(self, method: str, path: str, **more: Any) -> Any:
        """What a request that must succeed answers."""
        answer = self.ask(method, path, **more)
        assert answer.status_code == 200, (method, path, answer.text)
        body = answer.json()
        assert body["success"] is True
        assert body["error"] is None
        return body["data"]

    def refused(self, status: int, method: str, path: str, **more: Any) -> str:
        """The words of a request that must be refused."""
        answer = self.ask(method, path, **more)
        assert answer.status_code == status, (method, path, answer.text)
        body = answer.json()
        assert (body["success"], body["data"]) == (False, None)
        return str(body["error"]["message"])


def api_of(
    stores: Stores, user: str, scope: str = "write", client: TestClient | None = None
) -> Api:
    """The API with a new key of the user; with `client`, on an application that is there."""
    key = make_key(stores.database, user, f"{user}'s {scope} key", scope, datetime.now(UTC))
    return Api(client or TestClient(create_app(stores)), key)


@dataclass(frozen=True)
class Belongings:
    """One of each thing that somebody has: what a route's parameters may name."""

    user: str
    ids: Mapping[str, str]


def furnish(stores: Stores, user: str, mark: str) -> Belongings:
    """An account of the user's own in which everything happens once; `mark` stands in every text
    and name of it."""
    database, now = stores.database, datetime.now(UTC)
    add_user(database, user, f"{user} {mark}")
    name = f"{user} {mark}"  # who was there before is named so, too
    database.execute("UPDATE users SET name = ? WHERE user_id = ?", (name, user))
    account, conversation = f"{user}-{mark}", f"{mark}:asks/ü ?&#%2F.."
    add_account(
        stores,
        user,
        account,
        "generic",
        {"me": user, "push_key": f"{mark}-secret-of-the-platform"},
        lambda f: "",
    )
    Accounts(database, user).set_me(account, [user])
    database.execute("UPDATE accounts SET name = ? WHERE account = ?", (f"The box {mark}", account))
    database.execute(
        "UPDATE connections SET trouble_kind = 'fault', trouble = ?, trouble_since = ? "
        "WHERE account = ?",
        (f"broken {mark}", utc_text(now), account),
    )
    common: dict[str, Any] = {
        "account": account,
        "author": f"kim-{mark}",
        "channel": f"room-{mark}",
    }
    for number, key in enumerate((conversation, f"{mark}-waits", f"{mark}-canceled"), start=1):
        # A day each: bringing in a day replaces what it had.
        say(
            stores,
            f"Can you come, {mark}?",
            at=ASKED_AT - timedelta(days=number),
            number=str(number),
            conversation=key,
            draft=f"Yes, {mark}.",
            category=f"question-{mark}",
            **common,
        )
    asks = approve(database, user, account, conversation, None)
    waits = approve(database, user, account, f"{mark}-waits", None)
    canceled = approve(database, user, account, f"{mark}-canceled", None)
    undo(database, user, canceled.approval_id)
    outbox = Outbox(database, user)
    reply = outbox.parts(waits.approval_id)[0]
    raise_notice(database, reply, "m2", f"{mark} came too late", now)
    asking = outbox.parts(asks.approval_id)[0].delivery.delivery_id
    database.execute(
        "UPDATE deliveries SET state = 'needs_human', ambiguous = 1, fence = fence + 1, "
        "reason = ? WHERE delivery_id = ?",
        (f"nobody knows about {mark}", asking),
    )
    bury(database, account, [DeadLetter("import", f"{mark}.jsonl:1", f"no {mark}", f"{{{mark}")])
    letter = DeadLetters(database, user).list()[0]["dead_letter_id"]
    IngestionQueue(database).put([QueuedPush(account, f"{mark}-push", f"{mark} body")])
    outbox.open_policy(account, f"question-{mark}", 0.9, 5, now)
    outbox.stop_sending(account, f"because of {mark}", now)
    version = DraftVersion(
        account, conversation, "base", f"Anew {mark}.", "ready", "redraft", user, now, "en"
    )
    keep_redraft(database, user, None, version, None)
    Settings(database, user).set("signature", mark)
    Settings(database, user).set(
        "taxonomy",
        {"categories": [{"name": f"question-{mark}"}], "fallback": f"question-{mark}"},
    )
    message = f"room-{mark}:1"
    _keep_versions(stores, account, message, [f"Can you, {mark}?", f"Can you come, {mark}?"])
    regrouping = Corrections(database, user).split(account, conversation, message, now)
    # Nobody is asked there: it is this machine, where several users' messages do not go.
    url, shown = f"json://127.0.0.1:9/{mark}", f"json: JSON, {mark}.org"
    target = Targets(database, user).add(stores.keys, f"phone {mark}", url, shown, False, now)
    notice(database, user, [Notice("urgent", mark, account, conversation)], now)
    stores.lake.objects.put(digest_key(account, "2026-11-02"), f"# {account}\n".encode())
    memory = Memories(database, user).add(account, "say", f"Ask {mark}.", "everyone", "", now)
    second = f"{user}-{mark}-2"
    Accounts(database, user).add(second, "generic", f"The second box {mark}")
    people = [(account, f"kim-{mark}"), (second, f"k-{mark}"), (second, f"lee-{mark}")]
    for where, person in people:
        name = f"Lee {mark}" if person.startswith("lee") else f"Kim {mark}"
        know_people(database, where, [Person(person, name, now)])
    contact = Contacts(database, user).create(f"Kim {mark}", *people[0], now)
    other = Contacts(database, user).create(f"Lee {mark}", *people[2], now)
    spent = Spent(user, account, "analysis", "model", Usage(1, 10, 5, 0.0, 0.01))
    keeping.AnswersInDatabase(database).note([], [spent])
    make_key(database, user, f"key {mark}", "read", now)
    audit.note(database, user, "approved", now, account=account, target=mark, detail=mark)
    return Belongings(
        user,
        {
            "account": account,
            "conversation_id": conversation,
            "approval_id": waits.approval_id,
            "delivery_id": asking,
            "dead_letter_id": letter,
            "key_id": keys_of(database, user)[0]["key_id"],
            "category": f"question-{mark}",
            "contact_id": contact.contact_id,
            "other_contact_id": other.contact_id,
            "person_id": f"kim-{mark}",
            "memory_id": memory.memory.memory_id,
            "message_id": message,
            "other": f"{mark}-waits",
            "regrouping_id": regrouping.regrouping_id,
            "target_id": target,
        },
    )


def _keep_versions(stores: Stores, account: str, message_id: str, said: list[str]) -> None:
    """What a message said at first and after each edit, in the lake."""
    day = (ASKED_AT - timedelta(days=1)).strftime("%Y-%m-%d")
    rows = [
        {
            "message_id": message_id,
            "sent_at": ASKED_AT - timedelta(days=1),
            "text": text,
            "deleted": False,
            "version": version,
            "latest": version == len(said),
        }
        for version, text in enumerate(said, start=1)
    ]
    table = pa.Table.from_pylist(rows, schema=MESSAGE_SCHEMA)
    month = AccountMonth(account, day[:7])
    stores.lake.update("raw_messages", month, lambda _: {day: table})
