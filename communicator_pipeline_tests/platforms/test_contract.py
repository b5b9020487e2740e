"""What every platform keeps to, whatever its export looks like."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from communicator_pipeline.demo import gold, write_exports
from communicator_pipeline.platforms import UnknownExport, platforms
from communicator_pipeline.platforms.archive import BrokenFile
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.reading import (
    imported,
    read,
    stores_with_account,
    understood,
    write_json,
    write_zip,
)
from communicator_pipeline_tests.platforms.test_jsonl import line
from communicator_pipeline_tests.platforms.test_slack import message as slack_message
from communicator_pipeline_tests.platforms.test_slack import workspace
from communicator_pipeline_tests.platforms.test_telegram import account, chat
from communicator_pipeline_tests.platforms.test_telegram import message as telegram_message
from communicator_pipeline_tests.platforms.test_x import archive, dm, js, talk, tweet

NAMES = ["generic", "slack", "telegram", "text_log", "x"]
KEYS = (
    "id id_str ts type subtype text full_text date date_unixtime edited from from_id user action "
    "actor_id created_at createdAt senderId entities urls media user_mentions reactions poll "
    "answers files file photo blocks attachments message messages edited_unixtime mentions author "
    "sent_at kind communicator edit_info edit reply_to_message_id reply_to_peer_id thread_ts "
    "extended_entities mediaUrls members contact_information location_information editHistory "
    "elements profile bot_profile topic note people offset reply_to thread_id channel deleted_ts"
).split()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6)
    ),
    max_leaves=25,
)
OBJECT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8)


def export(platform: str, folder: Path, *items: Any) -> Path:
    """A small good export of the platform, with these items among its messages."""
    folder.mkdir(parents=True, exist_ok=True)
    if platform == "slack":
        return write_zip(folder / "e.zip", workspace(slack_message(1), *items, slack_message(2)))
    if platform == "telegram":
        whole = account(chat(telegram_message(1), *items, telegram_message(2)))
        return write_json(folder / "result.json", whole)
    if platform == "x":
        posts = js("tweets", [tweet("5"), *({"tweet": item} for item in items)])
        events = [dm("7"), *({"messageCreate": item} for item in items)]
        talks = js("direct_messages", [talk(*events)])
        return archive(folder, {"data/tweets.js": posts, "data/direct-messages.js": talks})
    if platform == "generic":
        path = folder / "chat.jsonl"
        path.write_text("\n".join([line(id="8"), *map(json.dumps, items), line(id="9")]))
        return path
    path = folder / "#a.log"
    said = "".join(f"[2026-11-03 09:13] <b> {json.dumps(item)}\n" for item in items)
    path.write_text(f"[2026-11-03 09:12] <a> hi\n{said}[2026-11-03 09:14] <a> bye\n")
    return path


def test_every_platform_is_installed() -> None:
    without_exports = ["matrix", "sandbox"]
    assert list(platforms()) == sorted([*NAMES, *without_exports])


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_recognised_as_its_own_platforms(name: str, tmp_path: Path) -> None:
    assert read(export(name, tmp_path)).platform.name == name


@pytest.mark.parametrize("name", NAMES)
def test_importing_twice_changes_nothing(name: str, tmp_path: Path) -> None:
    stores = stores_with_account(tmp_path / "home", name)
    path = export(name, tmp_path / "export")
    first = imported(stores, path)
    before = list(stores.lake.objects.list("landing/"))
    second = imported(stores, path)
    assert (first.kept, first.skipped) == (2, 0)
    assert (second.kept, second.skipped) == (0, 2)
    assert list(stores.lake.objects.list("landing/")) == before


@pytest.mark.parametrize("name", NAMES)
def test_every_message_stands_on_the_day_it_was_sent(name: str, tmp_path: Path) -> None:
    reading = read(export(name, tmp_path))
    days = {envelope.message_id: envelope.day for envelope in reading.envelopes}
    for row in reading.versions():
        assert row["sent_at"].date().isoformat() == days[row["message_id"]] == "2026-11-03"
        assert row["message_id"].startswith(f"{row['channel_id']}:")


def test_the_demo_is_read_as_a_person_reads_it(tmp_path: Path) -> None:
    """Every id of the gold comes out of the importers, and nothing else does."""
    expected = gold()
    for demo in write_exports(tmp_path):
        reading = read(demo.path)
        assert reading.platform.name == demo.platform
        assert reading.broken == []
        wanted = set(expected[expected["account"] == demo.account]["message_id"])
        assert {row["message_id"] for row in reading.versions()} == wanted
        assert reading.export.me in (frozenset(), frozenset({demo.me}))


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(payload=JSON | OBJECT, kind=st.sampled_from(["message", "deletion"]))
def test_no_payload_stops_a_materialisation(name: str, payload: Any, kind: str) -> None:
    """What cannot be understood is a dead letter in its place."""
    raw = json.dumps(payload).encode("utf-8", "replace")
    one = Envelope("2026-11-03", "feed:1", "feed", "dm", kind, 1, 1, raw, '{"a": ""}')
    rows, letters = understood([one], platforms()[name])
    assert len(rows) + len(letters) == 1


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(item=OBJECT | JSON)
def test_no_record_stops_an_import(name: str, item: Any, tmp_path: Path) -> None:
    """The good messages around it arrive; it is one too, or a dead letter."""
    reading = read(export(name, tmp_path, item), name)
    assert len(reading.envelopes) >= 2
    assert reading.broken == []
    assert all(letter.reason and letter.payload for letter in reading.letters)
    understood(reading.envelopes, reading.platform)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(
        ["result.json", "chat.jsonl", "a.log", "e.zip", "tweets.js", "c.jsonl.gz", "x.json", "y"]
    ),
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | JSON.map(json.dumps).map(str.encode),
)
def test_any_file_is_read_or_refused_in_words(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with suppress(BrokenFile, UnknownExport):
        read(path)
