"""Matrix against the real Synapse: every promise, and the whole way there and back.

What Synapse cannot be made to do (break an event, limit reads, forget a token) is tested against a
server of our own in `platforms/test_matrix_live.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline import runs
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.contract import ACCOUNT, LiveContract
from communicator_pipeline.platforms.matrix import pulling
from communicator_pipeline.platforms.protocol import (
    Field,
    Part,
    PullRequest,
    Refused,
    Sent,
    Target,
    Window,
)
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.synapse import Synapse, SynapsePeer, synapse

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def homeserver() -> Iterator[Synapse]:
    needs_peers()
    with synapse() as running:
        yield running


@pytest.fixture
def peer(homeserver: Synapse) -> Iterator[SynapsePeer]:
    talking = SynapsePeer(homeserver)
    yield talking
    talking.close()


class TestSynapse(LiveContract):
    platform = "matrix"

    @pytest.fixture
    def peer(self, homeserver: Synapse) -> Iterator[SynapsePeer]:
        talking = SynapsePeer(homeserver)
        yield talking
        talking.close()

    def test_a_limit_is_a_wait_and_no_failure(self, connected: Stores, peer: SynapsePeer) -> None:
        """Synapse limits sending, joining and logging in; who reads meets a limit of the proxy in
        front of it at most. So what holds here is that a limit on sending stops no pull."""
        message = peer.say("later")
        peer.limit(30)
        assert self.pull(connected).state == "ok"
        assert message in self.messages(connected)

    def test_a_broken_message_is_a_dead_letter_and_the_others_come(
        self, connected: Stores, peer: SynapsePeer
    ) -> None:
        """Synapse looks at the body of a text, not at a sticker's."""
        broken = peer.put({"body": ["not", "a text"]}, "m.sticker")
        good = peer.say("good")
        assert self.pull(connected).state == "ok"
        messages = self.messages(connected)
        assert good in messages
        assert broken not in messages
        letters = connected.database.execute("SELECT reason FROM dead_letters")
        assert len(letters) == 1

    def test_what_sync_leaves_out_is_read_back(
        self, connected: Stores, peer: SynapsePeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pulling, "TIMELINE", 5)
        monkeypatch.setattr(pulling, "PAGE", 7)
        said = {peer.say(f"known {n}") for n in range(20)}
        self.pull(connected)
        assert said <= set(self.messages(connected))
        said |= {peer.say(f"new {n}") for n in range(40)}
        assert self.pull(connected).kept == 40
        assert said <= set(self.messages(connected))
        assert not [c for c in Connections(connected).cursors(ACCOUNT, "") if c.startswith("gap:")]

    def test_a_redacted_edit_brings_the_words_before_it_back(
        self, connected: Stores, peer: SynapsePeer
    ) -> None:
        message = peer.say("at nine")
        edit = peer.edit(message, "at ten")
        self.pull(connected)
        assert self.messages(connected)[message]["text"] == "at ten"
        peer.delete(edit)
        self.pull(connected)
        rows = self.messages(connected)
        assert (rows[message]["text"], rows[message]["deleted"]) == ("at nine", False)
        assert edit not in rows

    def test_a_redacted_reaction_deletes_nothing(
        self, connected: Stores, peer: SynapsePeer
    ) -> None:
        message = peer.say("yes")
        relation = {"rel_type": "m.annotation", "event_id": peer.native(message), "key": "👍"}
        reaction = peer.put({"m.relates_to": relation}, "m.reaction")
        self.pull(connected)
        peer.delete(reaction)
        assert self.pull(connected).kept == 0

    def test_an_old_window_is_found_by_its_time(self, connected: Stores, peer: SynapsePeer) -> None:
        """Nothing is as old as that here: the homeserver's answer is that there is nothing."""
        now = datetime.now(UTC)
        peer.say("now")
        window = Window(now - timedelta(days=40), now - timedelta(days=30))
        with self.client(connected) as client:
            pages = list(client.pull(PullRequest(now, now, window)))
        assert pages[-1].done == 1.0
        assert [r for page in pages for r in page.records if hasattr(r, "message_id")] == []

    def test_encrypted_rooms_are_told_and_not_written_to(
        self, connected: Stores, peer: SynapsePeer
    ) -> None:
        encryption = {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        vault = peer.room("vault", initial_state=[encryption])
        peer.ben.call(
            "PUT",
            f"/_matrix/client/v3/rooms/{vault}/send/m.room.encrypted/1",
            {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgA"},
        )
        report = self.pull(connected)
        assert any("messages in vault are encrypted" in notice for notice in report.notices)
        with self.client(connected) as client:
            result = client.send(Target(vault), Part("plain"), "token-1")
        assert isinstance(result, Refused)
        assert "encrypted" in result.reason

    def test_an_invitation_is_told_and_not_accepted(
        self, connected: Stores, peer: SynapsePeer
    ) -> None:
        body = {"name": "pier", "invite": [peer.ana.user_id]}
        room = peer.ben.call("POST", "/_matrix/client/v3/createRoom", body)["room_id"]
        report = self.pull(connected)
        assert any("invites you to pier" in notice for notice in report.notices)
        joined = peer.ana.call("GET", "/_matrix/client/v3/joined_rooms")["joined_rooms"]
        assert room not in joined

    def test_a_file_comes_in_by_its_address(self, connected: Stores, peer: SynapsePeer) -> None:
        uploaded = peer.ben.http.post("/_matrix/media/v3/upload?filename=a.txt", content=b"tide")
        url = uploaded.json()["content_uri"]
        message = peer.put({"msgtype": "m.file", "body": "a.txt", "url": url})
        self.pull(connected)
        (file,) = self.messages(connected)[message]["attachments"]
        with self.client(connected) as client:
            assert client.download(file["url"], 100) == b"tide"
            with pytest.raises(ValueError, match="more than 3"):
                client.download(file["url"], 3)
            with pytest.raises(FileNotFoundError):
                client.download("mxc://here.example/gone", 3)


def test_two_people_talk_and_a_reply_finds_its_way(peer: SynapsePeer, stores: Stores) -> None:
    """There: talk, a thread, an edit, a deletion → messages, conversations, inbox. And back: a
    reply into the thread, whose echo is known as the owner's own and asks nobody for an answer."""
    values = {
        "homeserver": peer.server.url,
        "user_id": peer.ana.user_id,
        "password": peer.ana.password,
    }
    add_account(stores, "ana", ACCOUNT, "matrix", values, _nobody)
    root = peer.say("Ana, who takes the boat to the island on Friday?")
    peer.say("The shed was painted, by the way.")
    in_thread = peer.say("I can, if somebody brings the oars", thread=root)
    edited = peer.say("We leave at nine", thread=root)
    peer.edit(edited, "We leave at ten")
    regretted = peer.say("the code of the shed is 1234")
    peer.delete(regretted)
    assert pull_new(stores, ACCOUNT).state == "ok"
    rows = materialised(stores)
    assert rows[edited]["text"] == "We leave at ten"
    assert rows[regretted]["deleted"]
    assert rows[regretted]["text"] == ""
    assert rows[root]["author"] == "Ben"
    conversation = {rows[m]["conversation_id"] for m in (root, in_thread, edited)}
    assert len(conversation) == 1

    target = Target(peer.channel_id, thread_id=root, reply_to=edited)
    connection = Connections(stores).load(ACCOUNT)
    with live_side("matrix").connect(connection) as client:
        sent = client.send(target, Part("I take it, and I bring the oars."), "delivery-1")
    assert isinstance(sent, Sent)
    assert pull_new(stores, ACCOUNT).kept == 1
    rows = materialised(stores)
    echo = rows[sent.message_id]
    assert echo["author_id"] in load_account(stores.database, ACCOUNT).me
    assert {echo["conversation_id"]} == conversation
    found = Inbox(stores.database, "ana").conversation(echo["conversation_id"])
    assert not found["needs_reply"]
    assert found["draft"] is None
    assert pull_new(stores, ACCOUNT).kept == 0


def materialised(stores: Stores) -> dict[str, dict[str, object]]:
    """The inbox after everything that was touched has run: messages by id."""
    job = runs.chain_job(build_definitions({"stores": StoresResource(folder=str(home()))}))
    with runs.open_instance() as instance:
        runs.materialise_touched(stores, instance, job, lambda run: None)
    inbox = Inbox(stores.database, "ana")
    return {
        row["message_id"]: {**row, "conversation_id": listed["conversation_id"]}
        for listed in inbox.conversations(ACCOUNT)
        for row in inbox.messages(ACCOUNT, listed["conversation_id"])
    }


def _nobody(field: Field) -> str:
    raise AssertionError(f"the login asked for {field.name}")
