"""Telegram, live: the contract for a user's account and for a bot, and what is special to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from communicator_pipeline.platforms.contract import LiveContract, Peer
from communicator_pipeline.platforms.telegram import mtproto_asking
from communicator_pipeline.storage import Stores
from communicator_pipeline_tests.platforms.bot_api_server import BotApiServer
from communicator_pipeline_tests.platforms.telegram_request_peer import TelegramServer, client_of


class _UserContract(LiveContract):
    platform = "telegram"
    where = "user7"

    @pytest.fixture
    def peer(self, monkeypatch: pytest.MonkeyPatch) -> Peer:
        server = TelegramServer(self.where)
        monkeypatch.setattr(mtproto_asking, "new_client", client_of(server))
        return server


class TestUserInAPrivateChat(_UserContract):
    pass


class TestUserInASupergroup(_UserContract):
    where = "channel777"


class TestBot(LiveContract):
    platform = "telegram"
    has_history = False
    sees_deletions_when_pulled = False
    signs_no_bodies = True

    @pytest.fixture
    def peer(self) -> Iterator[Peer]:
        with BotApiServer() as server:
            yield server

    def test_a_deletion_leaves_a_tombstone(self, connected: Stores, peer: Peer) -> None:
        pytest.skip("Telegram does not tell bots of deletions")

    def test_an_answer_arrives_and_its_echo_is_recognised(
        self, connected: Stores, peer: Peer
    ) -> None:
        pytest.skip("Telegram does not show a bot what it wrote: there is no echo")


def test_who_needs_no_user_account_does_not_wait_for_telethon() -> None:
    """It takes half a second to import, at every start of every process."""
    code = (
        "import sys; from communicator_pipeline.platforms import platforms; "
        "platforms()['telegram'].live.fields; sys.exit('telethon' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
