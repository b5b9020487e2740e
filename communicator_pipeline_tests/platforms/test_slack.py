"""Slack's workspace export, old and new: what stands in it and what can be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline_tests.platforms.reading import (
    Reading,
    cut,
    imported,
    read,
    stores_with_account,
    write_zip,
)

TS = "1793707200.000100"  # 2026-11-03T12:00:00Z
DAY = "general/2026-11-03.json"


def ts(n: int) -> str:
    return f"17937072{n:02d}.000100"


def message(n: int, text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": "U1", "text": text, "ts": ts(n), **more}


def workspace(*messages: Any, **files: Any) -> dict[str, Any]:
    users = [
        {"id": "U1", "name": "maya", "profile": {"display_name": "Maya"}},
        {"id": "U2", "name": "bot", "is_bot": True, "profile": {"real_name": "Bot"}},
    ]
    lists = {
        "users.json": users,
        "channels.json": [{"id": "C1", "name": "general"}],
        "dms.json": [{"id": "D1", "members": ["U1", "U2"]}],
        "mpims.json": [{"id": "G1", "name": "mpdm-maya--bot-1", "members": ["U1", "U2"]}],
    }
    return {**lists, DAY: list(messages), **files}


def of_messages(tmp_path: Path, *messages: Any, **files: Any) -> Reading:
    return read(write_zip(tmp_path / "acme Slack export.zip", workspace(*messages, **files)))


def test_people_and_channels_are_named(tmp_path: Path) -> None:
    reading = of_messages(tmp_path, message(1), **{"D1/2026-11-03.json": [message(2)]})
    assert reading.people["U1"].name == "Maya"
    assert reading.people["U2"].is_bot
    assert reading.channels["C1"].name == "general"
    assert reading.channels["D1"].name == reading.channels["G1"].name == "Maya, Bot"
    assert {e.message_id for e in reading.envelopes} == {f"C1:{ts(1)}", f"D1:{ts(2)}"}


def test_threads_and_broadcasts_hang_on_their_parent(tmp_path: Path) -> None:
    found = of_messages(
        tmp_path,
        message(1, thread_ts=ts(1), reply_count=2),
        message(2, thread_ts=ts(1)),
        message(3, thread_ts=ts(1), subtype="thread_broadcast"),
    ).messages()
    assert found[ts(1)]["thread_id"] is None
    assert found[ts(2)]["thread_id"] == found[ts(3)]["thread_id"] == f"C1:{ts(1)}"
    assert found[ts(3)]["kind"] == "message"


def test_replies_that_come_in_do_not_change_the_parent(tmp_path: Path) -> None:
    few = of_messages(tmp_path, message(1, thread_ts=ts(1), reply_count=1))
    more = of_messages(tmp_path, message(1, thread_ts=ts(1), reply_count=9, latest_reply=ts(9)))
    assert few.envelopes[0].digest == more.envelopes[0].digest


def test_edits_and_deletions_of_old_exports_are_versions(tmp_path: Path) -> None:
    """They stand as items of their own; new exports carry `edited` in the message."""
    changed = {"type": "message", "subtype": "message_changed", "ts": ts(5)}
    deleted = {"type": "message", "subtype": "message_deleted", "ts": ts(6), "deleted_ts": ts(2)}
    rows = of_messages(
        tmp_path,
        message(1),
        {**changed, "message": message(1, "hello!", edited={"user": "U1", "ts": ts(5)})},
        message(2),
        deleted,
        message(3, edited={"user": "U1", "ts": ts(9)}),
        message(4, subtype="tombstone", user="USLACKBOT"),
    ).versions()
    by_id: dict[str, list[Any]] = {}
    for row in rows:
        by_id.setdefault(row["message_id"][3:], []).append(row)
    assert [r["text"] for r in by_id[ts(1)]] == ["hello", "hello!"]
    assert [r["deleted"] for r in by_id[ts(2)]] == [False, True]
    assert by_id[ts(2)][1]["author_id"] == "U1"
    assert by_id[ts(3)][0]["edited_at"] is not None
    assert by_id[ts(4)][0]["deleted"]


def test_bots_and_joins_are_told_apart_from_people(tmp_path: Path) -> None:
    bot = {"type": "message", "subtype": "bot_message", "username": "CI", "bot_id": "B1"}
    found = of_messages(
        tmp_path,
        {**bot, "text": "red", "ts": ts(1)},
        message(2, "<@U1> has joined", subtype="channel_join"),
    ).messages()
    assert found[ts(1)]["author_is_bot"]
    assert found[ts(1)]["author_name"] == "CI"
    assert found[ts(2)]["kind"] == "system"


@pytest.mark.parametrize("sign", ["?", "?pub_secret=1&"])
def test_the_token_in_a_files_link_is_kept_nowhere(tmp_path: Path, sign: str) -> None:
    """It opens every file of the workspace."""
    link = f"https://files.slack.com/a.pdf{sign}t=xoxe-123-abc"
    good = message(1, files=[{"id": "F1", "name": "a.pdf", "size": 7, "url_private": link}])
    bad = message(2, ts=1.5, files=[{"url_private": link}])
    reading = of_messages(tmp_path, good, bad)
    assert reading.messages()[ts(1)]["attachments"][0]["bytes"] == 7
    assert b"xoxe" not in b"".join(e.payload for e in reading.envelopes)
    assert "xoxe" not in str(reading.letters)


def test_a_token_that_expires_is_no_new_version(tmp_path: Path) -> None:
    stores = stores_with_account(tmp_path / "home", "slack")
    for token in ("xoxe-1", "xoxe-2"):
        link = f"https://files.slack.com/a.pdf?t={token}"
        path = write_zip(tmp_path / "e.zip", workspace(message(1, files=[{"url_private": link}])))
        counts = imported(stores, path)
    assert (counts.kept, counts.updated, counts.skipped) == (0, 0, 1)


def test_a_message_of_blocks_only_is_written_out(tmp_path: Path) -> None:
    text = {"type": "text", "text": "a < b "}
    elements = [text, {"type": "user", "user_id": "U2"}]
    blocks = [
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}
    ]
    found = of_messages(tmp_path, message(1, "", blocks=blocks)).messages()
    assert found[ts(1)]["text"] == "a < b <@U2>"
    assert found[ts(1)]["mentions"] == ["U2"]


def test_mentions_and_links_with_names_lose_the_names(tmp_path: Path) -> None:
    text = "<@U2|bot> in <#C1|general>: <https://a.example|this> &amp; <!here>"
    reactions = [{"name": "tada", "count": 3, "users": ["U1"]}]
    row = of_messages(tmp_path, message(1, text, reactions=reactions)).messages()[ts(1)]
    assert row["text"] == "<@U2> in <#C1>: this (https://a.example) & @here"
    assert row["reactions"] == [{"name": "tada", "count": 3}]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (message(1) | {"ts": 1793707201.0001}, "lost digits"),
        ({"type": "message", "text": "x"}, "no ts"),
        (message(1) | {"ts": "yesterday"}, "should look like"),
        ({"subtype": "message_changed", "ts": ts(1)}, "'message'"),
        ({"subtype": "message_changed", "ts": ts(1), "message": 7}, ""),
        ([1], "should be an object"),
    ],
)
def test_a_broken_message_is_a_dead_letter(tmp_path: Path, broken: Any, reason: str) -> None:
    """A ts that became a number has lost its last digits: it is no id any more."""
    reading = of_messages(tmp_path, message(7), broken, message(8))
    assert sorted(reading.messages()) == [ts(7), ts(8)]
    assert reason in reading.letters[0].reason


def test_a_day_cut_in_the_middle_gives_what_stood_before(tmp_path: Path) -> None:
    whole = json.dumps([message(n) for n in range(90)])
    reading = of_messages(tmp_path, **{DAY: whole[: len(whole) // 2]})
    assert 40 <= len(reading.envelopes) <= 50
    assert "breaks off" in reading.broken[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps([message(1)]).encode("utf-16"), "UTF-16"),
        (b"{}", "should hold a JSON list"),
        (b'[{"ts": "\xff"}]', "damaged"),
        (b"", "breaks off"),
    ],
)
def test_a_day_that_is_no_json_list_says_what_it_is(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    reading = of_messages(tmp_path, **{DAY: content, "general/2026-11-04.json": [message(1)]})
    assert len(reading.envelopes) == 1
    assert reason in reading.broken[0]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + json.dumps([message(1)]).encode()
    assert of_messages(tmp_path, **{DAY: content}).messages()


def test_a_million_brackets_are_a_dead_letter(tmp_path: Path) -> None:
    deep = "[" * 1_000_000 + "]" * 1_000_000
    whole = json.dumps([message(1), message(2, "DEEP")]).replace('"DEEP"', deep)
    (tmp_path / "e" / "general").mkdir(parents=True)  # as a folder: packed it is a bomb
    for name, content in {**workspace(), DAY: whole}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "e" / name).write_text(text)
    reading = read(tmp_path / "e")
    assert list(reading.messages()) == [ts(1)]
    assert "nested too deep" in reading.reasons[0]


def test_an_overlapping_newer_export_lands_only_what_is_new(tmp_path: Path) -> None:
    stores = stores_with_account(tmp_path / "home", "slack")
    old = write_zip(tmp_path / "old.zip", workspace(message(1), message(2)))
    edited = message(2, "hello!", edited={"ts": ts(9)})
    new = write_zip(tmp_path / "new.zip", workspace(message(1), edited, message(3)))
    assert imported(stores, old).kept == 2
    counts = imported(stores, new)
    assert (counts.kept, counts.updated, counts.skipped) == (1, 1, 1)


def test_a_truncated_zip_says_to_download_it_again(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", workspace(message(1)))
    with pytest.raises(ValueError, match="download it again"):
        read(cut(path, 60))
