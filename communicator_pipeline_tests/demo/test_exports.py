"""The demo corpus: the exports are real files of the platforms, and the gold fits them.

The ids are read here from the written files, apart from the code that made them.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from communicator_pipeline.demo import AS_OF, DemoExport, gold, write_exports
from communicator_pipeline.demo.script import load

CATEGORIES = {
    "question",
    "request",
    "scheduling",
    "incident",
    "sales",
    "support",
    "fyi",
    "social",
    "spam",
}

LANGUAGES = {
    "English": r"\b(the|and|is|you|what|with|have|we)\b",
    "German": r"\b(und|ist|nicht|wir|bitte|danke|der|die|das|ich|für|ihr|euch)\b",
    "Spanish": r"\b(hola|gracias|para|por|que|los|con|pero|el|la|una)\b|[¿¡]",
    "French": r"\b(bonjour|bonsoir|merci|est-ce|vous|et|pour|je|avec|mon|une)\b",
    "Russian": r"[ыэъё]|\b(что|как|мама|мне|кто)\b",
    "Ukrainian": r"[іїєґ]",
    "Chinese": r"[\u4e00-\u9fff]",
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DemoExport]:
    return {e.account: e for e in write_exports(tmp_path_factory.mktemp("demo"))}


@pytest.fixture(scope="module")
def right() -> pd.DataFrame:
    return gold()


def slack_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Channel id and record, for each record of each day."""
    with zipfile.ZipFile(path) as archive:
        folders: dict[str, str] = {}
        for kind in ("channels", "groups", "mpims", "dms"):
            if f"{kind}.json" in archive.namelist():
                for entry in json.loads(archive.read(f"{kind}.json")):
                    folders[entry.get("name", entry["id"])] = entry["id"]
        for name in archive.namelist():
            folder, _, day = name.partition("/")
            if day:
                for record in json.loads(archive.read(name)):
                    yield folders[folder], record


def x_rows(path: Path, name: str) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        text = archive.read(f"data/{name}.js").decode()
    head = f"window.YTD.{name.replace('-', '_')}.part0 = "
    assert text.startswith(head)
    rows: list[dict[str, Any]] = json.loads(text.removeprefix(head))
    return rows


def telegram_chats(path: Path) -> list[dict[str, Any]]:
    chats: list[dict[str, Any]] = json.loads((path / "result.json").read_text())["chats"]["list"]
    return chats


def found_ids(export: DemoExport) -> list[str]:
    """The ids of an export's messages, read from the file."""
    if export.platform == "slack":
        return [
            f"{channel}:{record['ts']}"
            for channel, record in slack_records(export.path)
            if record.get("subtype") not in ("message_changed", "message_deleted")
            and "ts" in record
        ]
    if export.platform == "telegram":
        return [
            f"{chat['id']}:{message['id']}"
            for chat in telegram_chats(export.path)
            for message in chat["messages"]
            if "id" in message
        ]
    ids = [f"feed:{row['tweet']['id_str']}" for row in x_rows(export.path, "tweets")]
    for name in ("direct-messages", "direct-messages-group"):
        for row in x_rows(export.path, name):
            talk = row["dmConversation"]
            for event in talk["messages"]:
                if "messageCreate" in event:
                    ids.append(f"{talk['conversationId']}:{event['messageCreate']['id']}")
    return ids


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    write_exports(tmp_path / "one")
    write_exports(tmp_path / "two")
    write_exports(tmp_path / "two")  # and again over what is there
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_the_gold_covers_each_message_exactly_once(
    exports: dict[str, DemoExport], right: pd.DataFrame
) -> None:
    assert not right.duplicated(["account", "message_id"]).any()
    for account, export in exports.items():
        found = found_ids(export)
        assert len(found) == len(set(found))
        assert set(found) == set(right.loc[right["account"] == account, "message_id"]), account


def test_exactly_two_records_are_broken_and_not_in_the_same_account(
    exports: dict[str, DemoExport],
) -> None:
    broken: list[str] = []
    for export in exports.values():
        if export.platform == "slack":
            records = slack_records(export.path)
            broken += [export.account for _, record in records if "ts" not in record]
        if export.platform == "telegram":
            broken += [
                export.account
                for chat in telegram_chats(export.path)
                for message in chat["messages"]
                if not {"id", "date", "date_unixtime"} <= message.keys()
            ]
    assert sorted(broken) == ["ana-slack-harbor", "ben-telegram"]


def test_the_corpus_has_the_promised_size(right: pd.DataFrame) -> None:
    counts = right["account"].value_counts()
    assert 560 <= len(right) <= 640
    assert 280 <= counts["ana-slack-harbor"] <= 320
    assert 70 <= counts["ana-x"] <= 90
    assert 150 <= counts["ben-telegram"] <= 175
    assert 50 <= counts["ben-slack-workshop"] <= 70


def test_each_conversation_has_one_known_category_and_one_state(right: pd.DataFrame) -> None:
    each = right.groupby(["account", "conversation"])
    assert (each[["category", "needs_reply", "style"]].nunique() == 1).all(axis=None)
    assert set(right["category"]) == CATEGORIES
    assert each["needs_reply"].first().sum() >= 30


def test_no_conversation_is_declared_without_messages(right: pd.DataFrame) -> None:
    for account in right["account"].unique():
        used = set(right.loc[right["account"] == account, "conversation"])
        assert set(load(account).conversations) <= used


def test_an_open_conversation_does_not_end_with_the_owners_own_words() -> None:
    for account in ("ana-slack-harbor", "ana-x", "ben-telegram", "ben-slack-workshop"):
        script = load(account)
        last = {line.conversation: line for line in script.lines}
        for label, conversation in script.conversations.items():
            if conversation.needs_reply:
                assert last[label].who != script.owner, label


def test_every_language_speaks_at_least_eight_times() -> None:
    texts = [
        line.text
        for account in ("ana-slack-harbor", "ana-x", "ben-telegram", "ben-slack-workshop")
        for line in load(account).lines
    ]
    for language, pattern in LANGUAGES.items():
        marks = re.compile(pattern, re.IGNORECASE)
        assert sum(marks.search(text) is not None for text in texts) >= 8, language


def test_the_messages_cross_the_end_of_a_month_and_end_before_as_of() -> None:
    times = [
        line.at
        for account in ("ana-slack-harbor", "ana-x", "ben-telegram", "ben-slack-workshop")
        for line in load(account).lines
    ]
    assert min(times).date().isoformat() == "2026-10-26"
    assert max(times).date().isoformat() == "2026-11-04"
    assert max(times) < AS_OF.replace(tzinfo=None)


def test_the_owner_wrote_in_each_account(exports: dict[str, DemoExport]) -> None:
    for account in ("ana-slack-harbor", "ben-slack-workshop"):
        export = exports[account]
        assert any(r.get("user") == export.me for _, r in slack_records(export.path))
    telegram = exports["ben-telegram"]
    chats = telegram_chats(telegram.path)
    assert any(m.get("from_id") == telegram.me for c in chats for m in c["messages"])
    x = exports["ana-x"]
    assert x_rows(x.path, "account")[0]["account"]["accountId"] == x.me


def test_the_newer_slack_export_has_what_the_older_one_lacks(
    exports: dict[str, DemoExport],
) -> None:
    new = [record for _, record in slack_records(exports["ana-slack-harbor"].path)]
    old = [record for _, record in slack_records(exports["ben-slack-workshop"].path)]
    assert any("blocks" in r for r in new)
    assert any("client_msg_id" in r for r in new)
    assert not any("blocks" in r or "client_msg_id" in r for r in old)
    of_new = {r.get("subtype") for r in new}
    of_old = {r.get("subtype") for r in old}
    assert {"tombstone", "thread_broadcast", "channel_join", "bot_message"} <= of_new
    assert {"message_changed", "message_deleted", "file_share", "bot_message"} <= of_old


def test_a_slack_thread_counts_the_replies_that_the_export_holds(
    exports: dict[str, DemoExport],
) -> None:
    records = [record for _, record in slack_records(exports["ana-slack-harbor"].path)]
    roots = [r for r in records if "reply_count" in r]
    assert len(roots) >= 10
    for root in roots:
        replies = [r["ts"] for r in records if r.get("thread_ts") == root["ts"] and r is not root]
        assert [reply["ts"] for reply in root["replies"]] == sorted(replies)


def test_telegram_files_lie_where_the_messages_say(exports: dict[str, DemoExport]) -> None:
    export = exports["ben-telegram"]
    paths = [
        message[key]
        for chat in telegram_chats(export.path)
        for message in chat["messages"]
        for key in ("photo", "file")
        if key in message
    ]
    assert len(paths) >= 14
    assert len(set(paths)) == len(paths)
    assert all((export.path / path).stat().st_size > 0 for path in paths)


def test_the_x_archive_carries_its_pictures_notes_and_edits(
    exports: dict[str, DemoExport],
) -> None:
    path = exports["ana-x"].path
    with zipfile.ZipFile(path) as archive:
        folders = {name.split("/")[1] for name in archive.namelist() if "_media/" in name}
    assert folders == {"tweets_media", "direct_messages_media", "direct_messages_group_media"}
    tweets = [row["tweet"] for row in x_rows(path, "tweets")]
    initial = {t["id_str"] for t in tweets if "initial" in t["edit_info"]}
    edits = [t["edit_info"]["edit"] for t in tweets if "edit" in t["edit_info"]]
    assert len(edits) == 1
    assert edits[0]["initialTweetId"] in initial
    (note,) = x_rows(path, "note-tweet")
    text = note["noteTweet"]["core"]["text"]
    assert any(t["full_text"].split("…")[0] == text[: t["full_text"].find("…")] for t in tweets)
