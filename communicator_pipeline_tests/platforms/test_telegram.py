"""Telegram Desktop's `result.json`: what stands in it and what can be wrong with it."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.telegram import PLATFORM
from communicator_pipeline.storage.lake import AccountMonth, attachment_key
from communicator_pipeline.storage.landing import read_landing
from communicator_pipeline_tests.platforms.reading import (
    ACCOUNT,
    Reading,
    cut,
    imported,
    read,
    stores_with_account,
    write_json,
    write_zip,
)

NOON = 1793707200  # 2026-11-03T12:00:00Z
JPEG = b"\xff\xd8\xff\xe0 a picture"


def message(native: Any, text: Any = "hello", **more: Any) -> dict[str, Any]:
    return {
        "id": native,
        "type": "message",
        "date": "2026-11-03T13:00:00",
        "date_unixtime": str(NOON),
        "from": "Maya Ito",
        "from_id": "user7",
        "text": text,
        "text_entities": [],
        **more,
    }


def service(native: int, action: str, **more: Any) -> dict[str, Any]:
    said = {"actor": "Maya", "actor_id": "user7", "action": action}
    return {**message(native, ""), "type": "service", "from": None, "from_id": None, **said, **more}


def chat(*messages: Any, **header: Any) -> dict[str, Any]:
    return {"name": "Harbor", "type": "private_supergroup", "id": 55, **header} | {
        "messages": list(messages)
    }


def account(*chats: Any, left: tuple[Any, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "about": "…",
        "personal_information": {"user_id": 1, "first_name": "Ana", "username": "@anaduarte"},
        "contacts": {"list": [{"user_id": 9, "first_name": "Joe", "last_name": "Li", "date": ""}]},
        **more,
        "chats": {"about": "…", "list": list(chats)},
        "left_chats": {"about": "…", "list": list(left)},
    }


def of_chat(tmp_path: Path, *messages: Any, **header: Any) -> Reading:
    return read(write_json(tmp_path / "result.json", chat(*messages, **header)))


def test_one_chat_and_a_whole_account_give_the_same_messages(tmp_path: Path) -> None:
    """An export of one chat is that chat; of the account, chats and left chats stand in lists."""
    one = of_chat(tmp_path, message(1), message(2))
    both = account(chat(message(1)), left=(chat(message(2), id=56, name="Old"),))
    whole = read(write_json(tmp_path / "all" / "result.json", both))
    assert [e.message_id for e in one.envelopes] == ["55:1", "55:2"]
    assert [e.message_id for e in whole.envelopes] == ["55:1", "56:2"]
    assert whole.export.me == {"user1"}
    assert whole.people["user1"].handle == "anaduarte"
    assert whole.people["user9"].name == "Joe Li"
    assert whole.channels["56"].name == "Old"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("personal_chat", "dm"),
        ("bot_chat", "dm"),
        ("saved_messages", "dm"),
        ("private_group", "group"),
        ("private_supergroup", "group"),
        ("public_supergroup", "channel"),
        ("public_channel", "feed"),
        ("a kind of 2027", "group"),
    ],
)
def test_each_kind_of_chat_has_its_kind_of_channel(
    tmp_path: Path, kind: str, expected: str
) -> None:
    assert of_chat(tmp_path, message(1), type=kind).channels["55"].kind == expected


def test_text_is_a_string_or_a_list_of_strings_and_entities(tmp_path: Path) -> None:
    """With any formatting the text becomes a list; people without @name are named by id."""
    found = of_chat(
        tmp_path,
        message(1, ["Hi ", {"type": "mention_name", "text": "Joe", "user_id": 9}, "!"]),
        message(2, ["see ", {"type": "text_link", "text": "this", "href": "https://a.example"}]),
        message(3, [{"type": "bold", "text": "loud"}, {"type": "custom_emoji", "text": "🎃"}]),
        {**message(4), "text": None, "text_entities": [{"type": "plain", "text": "from entities"}]},
    ).messages()
    assert found["1"]["text"] == "Hi <@user9>!"
    assert found["1"]["mentions"] == ["user9"]
    assert found["2"]["text"] == "see this (https://a.example)"
    assert found["3"]["text"] == "loud🎃"
    assert found["4"]["text"] == "from entities"


def test_the_owners_handle_in_a_text_is_a_mention_and_others_stay_text(tmp_path: Path) -> None:
    """Only the owner's @name is told by an export: of others it knows ids and names."""
    entities = [{"type": "mention", "text": "@AnaDuarte"}, {"type": "mention", "text": "@joe"}]
    text = [entities[0], " and ", entities[1]]
    whole = account(chat(message(1, text, text_entities=entities)))
    found = read(write_json(tmp_path / "result.json", whole)).messages()["1"]
    assert found["text"] == "<@user1> and @joe"
    assert found["mentions"] == ["user1"]


def test_a_reply_in_a_topic_belongs_to_the_topic_through_any_chain(tmp_path: Path) -> None:
    """A forum's messages name their topic only by answering its first message; answers to
    these name the answered message instead, and the topic follows from the chain."""
    found = of_chat(
        tmp_path,
        service(10, "topic_created", title="Repairs"),
        message(11, reply_to_message_id=10),
        message(12, reply_to_message_id=11),
        message(13),
        message(14, reply_to_message_id=13),
    ).messages()
    assert found["10"]["text"] == 'Maya opened the topic "Repairs"'
    assert (found["11"]["thread_id"], found["11"]["reply_to"]) == ("55:10", None)
    assert (found["12"]["thread_id"], found["12"]["reply_to"]) == ("55:10", "55:11")
    assert (found["14"]["thread_id"], found["14"]["reply_to"]) == (None, "55:13")


def test_a_reply_to_another_chat_names_that_chats_message(tmp_path: Path) -> None:
    found = of_chat(
        tmp_path, message(1, reply_to_message_id=8, reply_to_peer_id="channel777")
    ).messages()
    assert found["1"]["reply_to"] == "777:8"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (service(1, "pin_message", message_id=3), "Maya pinned a message"),
        (service(1, "invite_members", members=["Joe", None]), "Maya invited Joe, somebody"),
        (service(1, "remove_members", members=["Maya"]), "Maya left"),
        (service(1, "phone_call", duration_seconds=130), "Maya called (2 min)"),
        (service(1, "phone_call", discard_reason="missed"), "Maya called (missed)"),
        (service(1, "migrate_to_supergroup"), "Maya turned this group into a supergroup"),
        (service(1, "invented_in_2027", title="{0.__class__}"), "Maya invented in 2027"),
        (service(1, "edit_group_title", title="{x}"), 'Maya renamed the group to "{x}"'),
    ],
)
def test_service_messages_say_in_words_what_happened(
    tmp_path: Path, item: dict[str, Any], words: str
) -> None:
    """Also actions that are newer than this importer; a title is never a format string."""
    row = of_chat(tmp_path, item).messages()["1"]
    assert (row["kind"], row["text"], row["author_id"]) == ("system", words, "user7")


def test_forwards_edits_and_reactions_are_kept(tmp_path: Path) -> None:
    custom = {"type": "custom_emoji", "count": 3, "document_id": "123"}
    found = of_chat(
        tmp_path,
        message(1, forwarded_from="News", edited_unixtime=str(NOON + 60)),
        message(2, reactions=[{"type": "emoji", "emoji": "👍", "count": 2}, custom]),
        message(3, edited="1970-01-01T01:00:00"),
    ).messages()
    assert found["1"]["forwarded_from"] == "News"
    assert found["1"]["edited_at"].timestamp() == NOON + 60
    assert found["3"]["edited_at"] is None
    assert [(r["name"], r["count"]) for r in found["2"]["reactions"]] == [
        ("👍", 2),
        ("custom emoji", 3),
    ]


def test_media_are_attachments_or_words(tmp_path: Path) -> None:
    poll = {"question": "When?", "answers": [{"text": "Mon", "voters": 3}, {"text": "Tue"}]}
    absent = "(File not included. Change data exporting settings to download.)"
    found = of_chat(
        tmp_path,
        message(1, "", file="files/a.pdf", file_name="a.pdf", mime_type="application/pdf"),
        message(2, "", photo=absent, width=3, height=4),
        message(3, "", file=absent, media_type="sticker", sticker_emoji="🎃"),
        message(4, "", poll=poll),
        message(5, "", location_information={"latitude": 38.7, "longitude": -9.1}),
        message(6, "", contact_information={"first_name": "Joe", "phone_number": "+351 1"}),
    ).messages()
    assert found["1"]["attachments"][0]["mime"] == "application/pdf"
    assert found["2"]["attachments"][0]["name"] == "photo"
    assert found["3"]["text"] == "🎃"
    assert found["3"]["attachments"][0]["name"] == "sticker"
    assert found["4"]["text"] == "When?\n• Mon\n• Tue"
    assert found["5"]["text"] == "Location: 38.7, -9.1"
    assert found["6"]["text"] == "Contact: Joe +351 1"


@pytest.mark.parametrize("packing", ["folder", "zip", "zip with a top folder"])
def test_media_in_the_export_are_stored_under_their_hash(tmp_path: Path, packing: str) -> None:
    """The export may be deleted after the import: the pictures must not go with it. A path that
    leads out of the export names nothing."""
    (tmp_path / "secret.txt").write_text("not for the lake")
    whole = account(chat(message(1, photo="chats/photo_1.jpg"), message(2, file="../secret.txt")))
    if packing == "folder":
        path = tmp_path / "export"
        write_json(path / "result.json", whole)
        (path / "chats").mkdir()
        (path / "chats" / "photo_1.jpg").write_bytes(JPEG)
    else:
        top = "DataExport/" if "top" in packing else ""
        path = write_zip(
            tmp_path / "export.zip",
            {f"{top}result.json": whole, f"{top}chats/photo_1.jpg": JPEG},
        )
    stores = stores_with_account(tmp_path / "home", "telegram")
    assert imported(stores, path).kept == 2
    landed = read_landing(stores.lake, AccountMonth(ACCOUNT, "2026-11"), None).to_pylist()
    files = [json.loads(row["files"]) for row in landed if row["files"]]
    sha256 = hashlib.sha256(JPEG).hexdigest()
    assert files == [{"chats/photo_1.jpg": sha256}]
    assert stores.lake.objects.get(attachment_key(sha256))[0] == JPEG
    assert len(list(stores.lake.objects.list("attachments/"))) == 1


def test_a_file_that_is_too_large_stays_in_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("communicator_pipeline.ingestion.exports.LARGEST_ATTACHMENT", 3)
    path = write_zip(
        tmp_path / "e.zip", {"result.json": chat(message(1, photo="p.jpg")), "p.jpg": JPEG}
    )
    stores = stores_with_account(tmp_path / "home", "telegram")
    assert imported(stores, path).kept == 1
    assert list(stores.lake.objects.list("attachments/")) == []


def test_an_old_export_without_unixtime_is_read_as_utc(tmp_path: Path) -> None:
    """Until 2021 there was only local time without a zone, and authors were numbers."""
    old = message(1, from_id=7)
    del old["date_unixtime"], old["text_entities"]
    channel_post = message(2, from_id=(2 << 32) + 99)
    reading = of_chat(tmp_path, old, channel_post)
    found = reading.messages()
    assert found["1"]["sent_at"].isoformat() == "2026-11-03T13:00:00+00:00"
    assert found["1"]["author_id"] == "user7"
    assert found["2"]["author_id"] == "channel99"


def test_a_newer_record_before_it_tells_an_old_ones_offset(tmp_path: Path) -> None:
    old = message(2)
    del old["date_unixtime"]
    found = of_chat(tmp_path, message(1), old).messages()
    assert found["2"]["sent_at"].timestamp() == NOON


def test_the_same_message_from_an_old_and_a_new_export_is_one(tmp_path: Path) -> None:
    """The programs spell times, authors and paths differently: none of it is a new version."""
    old = message(1, from_id=7, photo="chats/chat_1/photo_1.jpg")
    del old["date_unixtime"], old["text_entities"]
    new = message(1, photo="chats/chat_9/photo_4.jpg", **{"from": "Maya Ito-Lopez"})
    [first] = of_chat(tmp_path, old).envelopes
    [second] = of_chat(tmp_path, new).envelopes
    assert first.digest == second.digest


def test_a_newer_export_lands_only_what_is_new_or_changed(tmp_path: Path) -> None:
    stores = stores_with_account(tmp_path / "home", "telegram")
    path = write_json(tmp_path / "result.json", account(chat(message(1), message(2))))
    assert imported(stores, path).kept == 2
    edited = message(2, "hello!", edited_unixtime=str(NOON + 9))
    write_json(path, account(chat(message(1), edited, message(3))))
    counts = imported(stores, path)
    assert (counts.kept, counts.updated, counts.skipped) == (1, 1, 1)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (message(None), "no id"),
        (message(1.5), "whole number"),
        (message("1"), "whole number"),
        (message(True), "whole number"),
        (message(10**30), "whole number"),
        ({"id": 1, "type": "message", "text": "x"}, "no date"),
        ({"id": 1, "type": "unsupported"}, "could not export"),
        (message(1, date_unixtime=None) | {"date": 17}, "date should be a text"),
        (message(1, date_unixtime="soon"), "whole seconds"),
        (message(1, date_unixtime=str(10**15)), "1970 and 2200"),
        ("a text", "should be an object"),
        (message(1, extra=10**40), "64 bits"),
    ],
)
def test_a_broken_message_is_a_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, broken: Any, reason: str
) -> None:
    reading = of_chat(tmp_path, message(98), broken, message(99))
    assert list(reading.messages()) == ["98", "99"]
    [letter] = reading.letters
    assert reason in letter.reason
    assert letter.source == "result.json, chat 55, message 2"
    assert letter.payload


def test_a_chat_without_an_id_is_one_dead_letter(tmp_path: Path) -> None:
    """Not one for each of its messages, which may be a million."""
    reading = of_chat(tmp_path, message(1), message(2), id="55")
    assert reading.envelopes == []
    assert len(reading.letters) == 1


def test_a_chat_whose_id_stands_behind_its_messages_is_read(tmp_path: Path) -> None:
    """Telegram Desktop writes the id first; a program that sorts keys does not."""
    whole = account({"id": 55, "messages": [message(1)], "name": "A", "type": "private_group"})
    whole["chats"]["list"].insert(0, {"messages": [message(4)], "type": "bot_chat", "id": 7})
    reading = read(write_json(tmp_path / "result.json", whole))
    assert [e.message_id for e in reading.envelopes] == ["7:4", "55:1"]
    assert reading.messages()["4"]["author_is_bot"]


def test_control_characters_as_telegram_desktop_spells_them_are_read(tmp_path: Path) -> None:
    r"""It writes `\x1F`, which is no JSON; a backslash before an x is something else."""
    path = write_json(tmp_path / "result.json", chat(message(1, "A\\xB2"), message(2, "CTRL")))
    path.write_text(path.read_text().replace("CTRL", "a\\x1Fb" + "\\\\" * 40_000))
    found = read(path).messages()
    assert found["1"]["text"] == "A\\xB2"
    assert found["2"]["text"] == "a\x1fb" + "\\" * 40_000


def test_a_file_cut_in_the_middle_gives_what_stood_before(tmp_path: Path) -> None:
    path = write_json(tmp_path / "result.json", chat(*(message(n) for n in range(1, 2001))))
    reading = read(cut(path, by=path.stat().st_size // 2))
    assert 900 < len(reading.envelopes) < 1100
    assert "breaks off" in reading.broken[0]
    assert reading.channels["55"].name == "Harbor"


def test_a_fault_in_the_middle_loses_nothing_before_it(tmp_path: Path) -> None:
    """ijson's own generators lose the 64 KB that a fault stands in."""
    path = write_json(tmp_path / "result.json", chat(message(1), message(2), message("FAULT")))
    path.write_text(path.read_text().replace('"FAULT"', "}{"))
    reading = read(path)
    assert [e.message_id for e in reading.envelopes] == ["55:1", "55:2"]
    assert reading.broken


def test_a_million_brackets_are_a_dead_letter(tmp_path: Path) -> None:
    path = write_json(tmp_path / "result.json", chat(message(1, "DEEP"), message(2)))
    deep = "[" * 1_000_000 + "]" * 1_000_000
    path.write_text(path.read_text().replace('"DEEP"', deep))
    reading = read(path)
    assert list(reading.messages()) == ["2"]
    assert "nested too deep" in reading.reasons[0]


def test_the_html_export_says_what_to_choose_instead(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "messages.html").write_text("<html>")
    with pytest.raises(BrokenFile, match="Machine-readable JSON"):
        PLATFORM.open_export(Archive(tmp_path / "e"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """One chat of 30,000 messages, as large as its file: it must not be built as a whole."""
    path = tmp_path / "result.json"
    line = json.dumps(message(1, "word " * 40)).replace('"id": 1,', '"id": %d,')
    with path.open("w") as out:
        out.write('{"name": "A", "type": "private_group", "id": 5, "messages": [')
        out.write(",".join(line % n for n in range(30_000)) + "]}")
    export = PLATFORM.open_export(Archive(path))
    tracemalloc.start()
    count = sum(1 for _ in export.records("result.json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_002
    assert peak < path.stat().st_size / 2
