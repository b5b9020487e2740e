"""What every live platform keeps to, as tests: subclass `LiveContract` and give it a peer.

Belongs here: promises that hold for all platforms, checked through the real ingestion, stores and
runs. Does not belong here: what is special about one of them (its own tests). A platform's peer is
a server, or the closest thing to one, in which somebody else can speak; see `Peer`.

    class TestSlack(LiveContract):
        platform = "slack"

        @pytest.fixture
        def peer(self) -> Iterator[Peer]:
            with SlackServer() as server:
                yield server
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.pull import PullReport, pull_history, pull_new
from communicator_pipeline.ingestion.push import drain, receive
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Field, Part, Push, Sent, Target, Window
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import add_user, load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months

ACCOUNT = "ana-there"


class Peer(Protocol):
    """The platform's stand-in, with somebody else in it. Times are the peer's own, about now."""

    @property
    def values(self) -> Mapping[str, str]:
        """What `accounts add` is given to reach it."""

    @property
    def channel_id(self) -> str:
        """A chat that the account reads, and in which the other one can speak."""

    def say(self, text: str, thread: str | None = None) -> str:
        """The other one writes, in the thread of a message (its message_id) or outside of any;
        returns the message_id that ingestion will give it."""

    def edit(self, message_id: str, text: str) -> None: ...

    def delete(self, message_id: str) -> None: ...

    def limit(self, seconds: float) -> None:
        """Every request is answered with the platform's limit, for so long from now."""

    def revoke(self) -> None:
        """The account's token is dead from now on."""

    def spoil(self, message_id: str) -> None:
        """What the platform tells of this message is broken from now on (a wrong type, a field
        that is missing)."""

    def pushes(self) -> Sequence[Push]:
        """Signed pushes of all that happened since the last call; empty where there is no push."""


class LiveContract:
    """The promises. Flags say which of them a platform cannot give, and its docs say so too."""

    platform: str
    sees_edits_when_pulled = True
    sees_deletions_when_pulled = True
    has_history = True
    has_threads = True

    @pytest.fixture
    def peer(self) -> Iterator[Peer]:
        raise NotImplementedError(f"{type(self).__name__} should give a peer")

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Stores:
        opened = open_local(tmp_path / "home")
        add_user(opened.database, "ana", "Ana")
        return opened

    @pytest.fixture
    def connected(self, stores: Stores, peer: Peer) -> Stores:
        """The stores with an account that is logged in at the peer."""
        add_account(stores, "ana", ACCOUNT, self.platform, peer.values, _nobody_to_ask)
        return stores

    # --- who it is

    def test_the_login_says_whose_it_is(self, connected: Stores, peer: Peer) -> None:
        connection = Connections(connected).load(ACCOUNT)
        assert connection.me
        with live_side(self.platform).connect(connection) as client:
            identity = client.identity()
        assert set(identity.person_ids) == set(connection.me)
        assert identity.place
        assert identity.can

    def test_no_secret_can_be_printed(self, connected: Stores, peer: Peer) -> None:
        connection = Connections(connected).load(ACCOUNT)
        shown = f"{connection!r} {connection.settings}"
        for field in live_side(self.platform).fields:
            value = peer.values.get(field.name, "")
            if field.secret and value:
                assert value not in shown
                assert value not in str(connected.database.execute("SELECT * FROM connections"))

    # --- pulling

    def test_what_is_said_comes_in_once(self, connected: Stores, peer: Peer) -> None:
        first = peer.say("the boat is ready")
        second = peer.say("and the oars too")
        report = self.pull(connected)
        assert report.state == "ok", report
        messages = self.messages(connected)
        assert messages[first]["text"] == "the boat is ready"
        assert messages[second]["text"] == "and the oars too"
        assert messages[first]["channel_id"] == peer.channel_id
        assert messages[first]["author_id"] not in load_account(connected.database, ACCOUNT).me
        assert abs(messages[first]["sent_at"] - datetime.now(UTC)) < timedelta(days=1)
        assert self.pull(connected).kept == 0

    def test_a_pull_goes_on_where_the_last_one_was(self, connected: Stores, peer: Peer) -> None:
        peer.say("one")
        self.pull(connected)
        two = peer.say("two")
        report = self.pull(connected)
        assert report.kept == 1
        assert self.messages(connected)[two]["text"] == "two"

    def test_pulling_from_the_beginning_again_changes_nothing(
        self, connected: Stores, peer: Peer
    ) -> None:
        said = {peer.say(f"number {n}") for n in range(5)}
        assert self.pull(connected).kept >= 5
        connected.database.execute("DELETE FROM cursors")
        assert self.pull(connected).kept == 0
        assert said <= set(self.messages(connected))

    def test_a_thread_is_known_as_one(self, connected: Stores, peer: Peer) -> None:
        if not self.has_threads:
            pytest.skip("the platform has no threads")
        root = peer.say("who takes the boat?")
        self.pull(connected)
        answer = peer.say("I do", thread=root)
        self.pull(connected)
        row = self.messages(connected)[answer]
        assert root in (row["thread_id"], row["reply_to"])

    def test_an_edit_is_a_new_version(self, connected: Stores, peer: Peer) -> None:
        message = peer.say("at nine")
        self.pull(connected)
        peer.edit(message, "at ten")
        self.bring(connected, peer, by_pull=self.sees_edits_when_pulled)
        row = self.messages(connected)[message]
        assert (row["text"], row["version"], row["deleted"]) == ("at ten", 2, False)
        assert row["edited_at"] is not None

    def test_a_deletion_leaves_a_tombstone(self, connected: Stores, peer: Peer) -> None:
        message = peer.say("the code is 1234")
        self.pull(connected)
        peer.delete(message)
        self.bring(connected, peer, by_pull=self.sees_deletions_when_pulled)
        row = self.messages(connected)[message]
        assert (row["text"], row["deleted"]) == ("", True)

    def test_history_comes_in_by_window(self, connected: Stores, peer: Peer) -> None:
        if not self.has_history:
            pytest.skip("the platform gives no history")
        message = peer.say("before anybody looked")
        now = datetime.now(UTC)
        window = Window(now - timedelta(days=2), now + timedelta(days=1))
        Connections(connected).fetch_again(ACCOUNT, window)  # though the cursors would bring it
        report = pull_history(connected, ACCOUNT, window)
        assert report.state == "ok", report
        assert message in self.messages(connected)
        assert pull_history(connected, ACCOUNT, window).kept == 0
        assert self.pull(connected).kept == 0

    # --- limits, failures

    def test_a_limit_is_a_wait_and_no_failure(self, connected: Stores, peer: Peer) -> None:
        message = peer.say("later")
        peer.limit(1.0)
        report = self.pull(connected)
        assert report.state == "waiting", report
        assert report.not_before is not None
        assert report.not_before > datetime.now(UTC) - timedelta(seconds=1)
        assert Connections(connected).health(ACCOUNT).trouble == ""
        # While the deadline stands nothing is asked, in whatever process.
        assert self.pull(connected).state == "waiting"
        Connections(connected).forget_waits(ACCOUNT)
        peer.limit(0)
        assert self.pull(connected).state == "ok"
        assert message in self.messages(connected)

    def test_a_dead_token_says_which_command_repairs_it(
        self, connected: Stores, peer: Peer
    ) -> None:
        peer.revoke()
        report = self.pull(connected)
        assert report.state == "login needed", report
        health = Connections(connected).health(ACCOUNT)
        assert f"communicator accounts login {ACCOUNT}" in health.repair
        for value in _secrets(self.platform, peer):
            assert value not in health.trouble

    def test_a_broken_message_is_a_dead_letter_and_the_others_come(
        self, connected: Stores, peer: Peer
    ) -> None:
        broken = peer.say("broken")
        peer.spoil(broken)
        good = peer.say("good")
        report = self.pull(connected)
        assert report.state == "ok", report
        messages = self.messages(connected)
        assert good in messages
        assert broken not in messages
        letters = connected.database.execute("SELECT reason, payload FROM dead_letters")
        assert len(letters) == 1
        for value in _secrets(self.platform, peer):
            assert value not in f"{letters[0]}"

    # --- sending

    def test_an_answer_arrives_and_its_echo_is_recognised(
        self, connected: Stores, peer: Peer
    ) -> None:
        question = peer.say("who has the key?")
        self.pull(connected)
        thread = question if self.has_threads else None
        target = Target(peer.channel_id, thread_id=thread, reply_to=question)
        with self.client(connected) as client:
            result = client.send(target, Part("I have it"), "01b6c6f2-token-1")
        assert isinstance(result, Sent), result
        self.pull(connected)
        echo = self.messages(connected)[result.message_id]
        assert echo["text"] == "I have it"
        assert echo["author_id"] in load_account(connected.database, ACCOUNT).me

    def test_a_send_with_a_dead_token_is_refused(self, connected: Stores, peer: Peer) -> None:
        peer.say("hello")
        self.pull(connected)
        peer.revoke()
        with self.client(connected) as client:
            result = client.send(Target(peer.channel_id), Part("hi"), "01b6c6f2-token-2")
        assert type(result).__name__ == "Refused", result
        for value in _secrets(self.platform, peer):
            assert value not in f"{result}"

    def test_a_send_under_a_limit_is_for_later(self, connected: Stores, peer: Peer) -> None:
        peer.say("hello")
        self.pull(connected)
        peer.limit(30)
        with self.client(connected) as client:
            result = client.send(Target(peer.channel_id), Part("hi"), "01b6c6f2-token-3")
        peer.limit(0)
        assert type(result).__name__ == "Refused", result
        assert result.not_before is not None

    def test_a_lost_answer_is_found_again_or_sent_once_more(
        self, connected: Stores, peer: Peer
    ) -> None:
        """What the delivery job does after a crash: by the platform's own promise, one message."""
        promise = live_side(self.platform).promise(Connections(connected).load(ACCOUNT))
        if not (promise.repeats or promise.looks_up):
            pytest.skip("the platform offers neither a key nor a look-up: a person decides")
        peer.say("hello")
        self.pull(connected)
        began = datetime.now(UTC)
        target, part, token = Target(peer.channel_id), Part("only once"), "01b6c6f2-token-4"
        with self.client(connected) as client:
            before = client.find_sent(target, part, token, began) if promise.looks_up else None
            sent = client.send(target, part, token)
            assert isinstance(sent, Sent), sent
            if promise.looks_up:
                assert type(before).__name__ == "Absent", before
                found = client.find_sent(target, part, token, began)
                assert isinstance(found, Sent), found
                assert found.message_id == sent.message_id
            if promise.repeats:
                again = client.send(target, part, token)
                assert isinstance(again, Sent), again
                assert again.message_id == sent.message_id
        self.pull(connected)
        texts = [row["text"] for row in self.messages(connected).values()]
        assert texts.count("only once") == 1

    # --- being pushed to

    def test_a_push_is_verified_queued_and_lands_once(self, connected: Stores, peer: Peer) -> None:
        message = peer.say("pushed")
        pushes = peer.pushes()
        if not pushes:
            pytest.skip("the platform does not push")
        for push in [*pushes, *pushes]:
            assert receive(connected, self.platform, ACCOUNT, push).status == 200
        assert drain(connected).landed >= 1
        assert self.messages(connected)[message]["text"] == "pushed"
        assert self.pull(connected).kept == 0 or message in self.messages(connected)
        versions = [row for row in self.rows(connected) if row["message_id"] == message]
        assert len(versions) == 1

    def test_a_forged_push_is_refused(self, connected: Stores, peer: Peer) -> None:
        peer.say("pushed")
        for push in peer.pushes():
            forgeries = (
                push._replace(body=push.body + b" "),
                push._replace(headers={}),
                push._replace(headers=dict.fromkeys(push.headers, "0")),
                push._replace(headers=dict.fromkeys(push.headers, "�\x00")),
            )
            for forged in forgeries[1:] if self.signs_no_bodies else forgeries:
                assert receive(connected, self.platform, ACCOUNT, forged).status == 401
        assert drain(connected).landed == 0

    signs_no_bodies = False
    """A static secret in a header proves who pushes, and not what."""

    # --- what the tests are made of

    def pull(self, stores: Stores) -> PullReport:
        return pull_new(stores, ACCOUNT)

    def bring(self, stores: Stores, peer: Peer, by_pull: bool) -> None:
        """Have news come in: by a pull, or by pushes where pulling does not show them."""
        if by_pull:
            assert self.pull(stores).state == "ok"
            return
        for push in peer.pushes():
            assert receive(stores, self.platform, ACCOUNT, push).status == 200
        drain(stores)

    def client(self, stores: Stores) -> Any:
        return live_side(self.platform).connect(Connections(stores).load(ACCOUNT))

    def rows(self, stores: Stores) -> list[dict[str, Any]]:
        """Every version of every message, as `raw_messages` has them."""
        rows: list[dict[str, Any]] = []
        for month in landed_months(stores.lake, ACCOUNT):
            partition = AccountMonth(ACCOUNT, month)
            report = raw_messages.materialise(stores, partition, Scope((partition,)))
            for entry in report.manifest.days.values():
                rows += stores.lake.read_day(raw_messages.ASSET, partition, entry).to_pylist()
        return rows

    def messages(self, stores: Stores) -> dict[str, dict[str, Any]]:
        """The latest version of each message, by message_id."""
        return {row["message_id"]: row for row in self.rows(stores) if row["latest"]}


def _nobody_to_ask(field: Field) -> str:
    raise AssertionError(f"the login asked for {field.name}, which the peer's values do not hold")


def _secrets(platform: str, peer: Peer) -> list[str]:
    secret = {field.name for field in live_side(platform).fields if field.secret}
    return [value for name, value in peer.values.items() if name in secret and len(value) > 5]
