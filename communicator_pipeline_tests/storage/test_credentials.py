"""Credentials at rest."""

from __future__ import annotations

import multiprocessing
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from communicator_pipeline.language_model.configuration import (
    ModelsConfig,
    configured,
    keep_configuration,
    key_of,
    read_configuration,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.credentials import (
    KEYS_VARIABLE,
    KeyMissing,
    Keyring,
    redact,
)
from communicator_pipeline.storage.sealed import drop_old_keys, seal_anew

TOKEN = {"token": "xoxb-very-secret"}


def _sealed_in_a_process(path: str, results: object) -> None:
    results.put(Keyring(Path(path)).seal(TOKEN))  # type: ignore[attr-defined]


def test_what_is_sealed_can_be_opened_with_the_key_and_only_with_it(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "credentials.key")
    sealed = keys.seal(TOKEN)
    assert "secret" not in sealed
    assert Keyring(tmp_path / "credentials.key").open(sealed) == TOKEN
    other = Keyring(tmp_path / "other.key")
    with pytest.raises(KeyMissing, match="there is no key in"):
        other.open(sealed)
    other.seal(TOKEN)
    with pytest.raises(KeyMissing, match="put the key back, or log in again"):
        other.open(sealed)


def test_the_key_file_is_for_its_owner_only(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "credentials.key")
    keys.seal(TOKEN)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_processes_that_seal_first_together_make_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    path = str(tmp_path / "credentials.key")
    processes = [context.Process(target=_sealed_in_a_process, args=(path, results)) for _ in "1234"]
    for process in processes:
        process.start()
    sealed = [results.get(timeout=60) for _ in processes]
    assert [Keyring(Path(path)).open(text) for text in sealed] == [TOKEN] * 4


def test_rotation_leaves_only_the_new_key(stores: Stores) -> None:
    connections = Connections(stores)
    connections.save("ana-chat", {}, TOKEN, timedelta(minutes=1), datetime.now(UTC))
    before = stores.keys.path.read_text()
    stores.keys.add_key()
    assert connections.load("ana-chat").secrets == TOKEN  # between the steps everything opens
    assert seal_anew(stores) == 1
    assert stores.keys.drop_old_keys() == 1
    after = stores.keys.path.read_text()
    assert before.strip() not in after
    assert connections.load("ana-chat").secrets == TOKEN


def test_old_keys_stay_while_something_needs_them(stores: Stores) -> None:
    """Somebody logs in during the rotation: sealed before it, written after it had looked."""
    connections = Connections(stores)
    connections.save("ana-chat", {}, TOKEN, timedelta(minutes=1), datetime.now(UTC))
    sealed = stores.keys.seal(TOKEN)
    stores.keys.add_key()
    seal_anew(stores)
    stores.database.execute("UPDATE connections SET secrets = ?", (sealed,))
    with pytest.raises(KeyMissing, match="run this again with --no-new-key"):
        drop_old_keys(stores)
    assert connections.load("ana-chat").secrets == TOKEN
    seal_anew(stores)
    assert drop_old_keys(stores) == 1
    assert connections.load("ana-chat").secrets == TOKEN


def test_rotation_finds_everything_that_is_sealed(stores: Stores) -> None:
    Connections(stores).save("ana-chat", {}, TOKEN, timedelta(minutes=1), datetime.now(UTC))
    given = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}
    models = ModelsConfig(
        first=configured(given, "first key", stores), second=configured(given, "second", stores)
    )
    keep_configuration(stores, models)
    stores.database.execute(
        "INSERT INTO notification_targets (target_id, user_id, name, shown, sealed, created_at) "
        "VALUES ('t', 'ana', 'chat', 'json://…', ?, '2026-11-03T00:00:00.000000Z')",
        (stores.keys.seal({"url": "json://secret"}),),
    )
    stores.keys.add_key()
    assert seal_anew(stores) == 4
    assert drop_old_keys(stores) == 1
    read = read_configuration(stores)
    assert read is not None
    assert read.second is not None
    assert (key_of(stores, read.first), key_of(stores, read.second)) == ("first key", "second")
    rows = stores.database.execute("SELECT sealed FROM notification_targets")
    assert stores.keys.open(rows[0]["sealed"]) == {"url": "json://secret"}
    assert read.first.model == "m"  # and nothing else of it has changed


def test_no_key_is_dropped_between_sealing_and_keeping(stores: Stores) -> None:
    stores.keys.seal(TOKEN)
    dropping = threading.Thread(target=stores.keys.drop_old_keys)
    with stores.keys.held():
        dropping.start()
        dropping.join(0.2)
        assert dropping.is_alive()
    dropping.join()


def test_keys_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    keys = Keyring(tmp_path / "credentials.key")
    monkeypatch.setenv(KEYS_VARIABLE, old)
    sealed = keys.seal(TOKEN)
    monkeypatch.setenv(KEYS_VARIABLE, f"{new},{old}")
    assert keys.open(sealed) == TOKEN
    monkeypatch.setenv(KEYS_VARIABLE, new)
    with pytest.raises(KeyMissing):
        keys.open(sealed)
    monkeypatch.setenv(KEYS_VARIABLE, "not-a-key")
    with pytest.raises(KeyMissing, match="not a list of Fernet keys"):
        keys.seal(TOKEN)
    assert not keys.path.exists()


def test_secrets_are_taken_out_of_texts_and_short_words_stay() -> None:
    words = "GET https://api/bot123:abcdef/x failed for no reason"
    assert redact(words, ["bot123:abcdef", "no"]) == "GET https://api/•••/x failed for no reason"
    assert redact("x abcdefghijkl y", ["abcdef", "abcdefghijkl"]) == "x ••• y"
