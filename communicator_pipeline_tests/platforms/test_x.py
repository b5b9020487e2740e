"""X's archive: what stands in it and what can be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.platforms.archive import BrokenFile
from communicator_pipeline_tests.platforms.reading import (
    Reading,
    imported,
    read,
    stores_with_account,
    write_zip,
)

ME = "14"
JPEG = b"\xff\xd8\xff a picture"


def js(name: str, rows: Any, part: int = 0) -> str:
    return f"window.YTD.{name}.part{part} = " + json.dumps(rows, indent=2)


def tweet(native: Any, text: str = "hello", **more: Any) -> dict[str, Any]:
    made = {"created_at": "Tue Nov 03 09:12:44 +0000 2026", "full_text": text}
    counts = {"favorite_count": "0", "retweet_count": "0"}
    return {"tweet": {"id_str": native, "id": native, "entities": {}, **made, **counts, **more}}


def dm(native: Any, text: Any = "hi", sender: Any = "20", **more: Any) -> dict[str, Any]:
    made = {"createdAt": "2026-11-03T10:00:00.123Z", "mediaUrls": [], "urls": []}
    told = {"id": native, "text": text, "senderId": sender, "recipientId": ME}
    return {"messageCreate": {**told, **made, "reactions": [], **more}}


def talk(*events: Any, native: Any = "14-20") -> dict[str, Any]:
    return {"dmConversation": {"conversationId": native, "messages": list(events)}}


def archive(tmp_path: Path, files: dict[str, Any], name: str = "x.zip") -> Path:
    mine = [{"account": {"accountId": ME, "username": "ana", "accountDisplayName": "Ana D."}}]
    return write_zip(tmp_path / name, {"data/account.js": js("account", mine), **files})


def of_tweets(tmp_path: Path, *tweets: Any, **files: Any) -> Reading:
    return read(archive(tmp_path, {"data/tweets.js": js("tweets", tweets), **files}))


def of_talk(tmp_path: Path, *events: Any, **files: Any) -> Reading:
    rows = js("direct_messages", [talk(*events)])
    return read(archive(tmp_path, {"data/direct-messages.js": rows, **files}))


def test_the_archive_says_whose_it_is(tmp_path: Path) -> None:
    reading = of_tweets(tmp_path, tweet("5"))
    assert reading.platform.name == "x"
    assert reading.export.me == {ME}
    assert reading.people[ME].name == "Ana D."
    assert reading.people[ME].handle == "ana"
    assert reading.messages()["5"]["author_id"] == ME
    assert reading.messages()["5"]["sent_at"].isoformat() == "2026-11-03T09:12:44+00:00"


def test_an_archive_without_its_account_says_what_to_import(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"data/tweets.js": js("tweets", [tweet("5")])})
    with pytest.raises(BrokenFile, match="whose archive"):
        read(path)


@pytest.mark.parametrize("name", ["tweet", "tweets", "tweets-part7", "community-tweet"])
def test_old_and_new_names_of_the_parts_are_read(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, {f"data/{name}.js": js("tweets", [tweet("5")], 7)})
    assert [e.message_id for e in read(path).envelopes] == ["feed:5"]


def test_links_are_spelled_out_and_people_become_ids(tmp_path: Path) -> None:
    """t.co links die with X; `&amp;` in the text is a plain `&`, in an address it stays one."""
    entities = {
        "urls": [{"url": "https://t.co/a1", "expanded_url": "https://a.example/?x=1&copy=2"}],
        "user_mentions": [{"screen_name": "Joe", "name": "Joe Li", "id_str": "20"}],
    }
    reading = of_tweets(tmp_path, tweet("5", "@joe a &amp; b https://t.co/a1", entities=entities))
    row = reading.messages()["5"]
    assert row["text"] == "<@20> a & b https://a.example/?x=1&copy=2"
    assert row["mentions"] == ["20"]
    assert (reading.people["20"].name, reading.people["20"].handle) == ("Joe Li", "Joe")


def test_replies_reposts_and_edits_are_linked(tmp_path: Path) -> None:
    """Each version of an edited post has an id: the later ones hang on the first."""
    found = of_tweets(
        tmp_path,
        tweet("5"),
        tweet("6", in_reply_to_status_id_str="5", favorite_count="3"),
        tweet("7", "RT @joe: so true"),
        tweet("8", edit_info={"edit": {"initialTweetId": "5"}}),
    ).messages()
    assert found["6"]["reply_to"] == "feed:5"
    assert [(r["name"], r["count"]) for r in found["6"]["reactions"]] == [("like", 3)]
    assert (found["7"]["text"], found["7"]["forwarded_from"]) == ("so true", "@joe")
    assert found["8"]["thread_id"] == "feed:5"
    assert found["8"]["edited_at"]


def test_a_long_post_is_made_whole_from_its_note(tmp_path: Path) -> None:
    """tweets.js cuts it; only the words and the time tell which note it is."""
    whole = "A note about families without cars & their bikes. " * 9
    cut = whole.replace("&", "&amp;")[:250] + "… https://x.com/i/web/status/5"
    notes = [
        {"noteTweet": {"createdAt": f"2026-11-0{day}T09:12:43.000Z", "core": {"text": text}}}
        for day, text in ((1, whole + "other"), (3, whole))
    ]
    reading = of_tweets(
        tmp_path,
        tweet("5", cut),
        tweet("6", "short"),
        **{"data/note-tweet.js": js("note_tweet", notes)},
    )
    assert reading.messages()["5"]["text"] == whole.strip()
    assert reading.messages()["6"]["text"] == "short"


def test_a_deleted_post_is_a_tombstone_without_its_text(tmp_path: Path) -> None:
    """The owner deleted the words: the lake does not keep them from this file."""
    gone = tweet("5", "regretted", deleted_at="Wed Nov 04 09:12:44 +0000 2026")
    reading = of_tweets(
        tmp_path, tweet("6"), **{"data/deleted-tweets.js": js("deleted_tweets", [gone])}
    )
    assert reading.messages()["5"]["deleted"]
    assert not any(b"regretted" in envelope.payload for envelope in reading.envelopes)


def test_media_are_found_by_the_id_in_their_name(tmp_path: Path) -> None:
    """A film's file is named after a variant, a picture's after its address."""
    media = [
        {"url": "https://t.co/p", "media_url_https": "https://pbs.twimg.com/media/G1.jpg"},
        {
            "url": "https://t.co/p",
            "media_url_https": "https://pbs.twimg.com/thumb/V.jpg",
            "video_info": {"variants": [{"url": "https://video.twimg.com/v/F.mp4?tag=12"}]},
        },
        {"url": "https://t.co/p", "media_url_https": "https://pbs.twimg.com/media/LOST.jpg"},
    ]
    reading = of_tweets(
        tmp_path,
        tweet("5", "look https://t.co/p", extended_entities={"media": media}),
        **{"data/tweets_media/5-G1.jpg": JPEG, "data/tweets_media/5-F.mp4": b"film"},
    )
    row = reading.messages()["5"]
    assert row["text"] == "look"
    assert [(a["name"], a["url"]) for a in row["attachments"]] == [
        ("G1.jpg", None),
        ("F.mp4", None),
        ("LOST.jpg", "https://pbs.twimg.com/media/LOST.jpg"),
    ]
    stores = stores_with_account(tmp_path / "home", "x")
    imported(stores, tmp_path / "x.zip")
    assert len(list(stores.lake.objects.list("attachments/"))) == 2


def test_direct_messages_know_their_pair_and_its_name(tmp_path: Path) -> None:
    """They carry ids only: the name of the other is known if a post mentions them."""
    mention = {"user_mentions": [{"screen_name": "joe", "name": "Joe Li", "id_str": "20"}]}
    posts = {"data/tweets.js": js("tweets", [tweet("5", "@joe", entities=mention)])}
    reacted = [{"reactionKey": "like", "senderId": ME}, {"reactionKey": "like", "senderId": "20"}]
    links = [{"url": "https://t.co/a", "expanded": "https://a.example", "display": "a"}]
    reading = of_talk(
        tmp_path,
        dm("2", "see https://t.co/a", urls=links, reactions=reacted),
        dm("1", editHistory=[{"createdAtSec": "1793700100", "editedText": "hi"}]),
        **posts,
    )
    found = reading.messages()
    assert found["2"]["text"] == "see https://a.example"
    assert found["2"]["author_id"] == "20"
    assert [(r["name"], r["count"]) for r in found["2"]["reactions"]] == [("like", 2)]
    assert found["1"]["edited_at"] is not None
    assert reading.channels["14-20"].name == "Joe Li"
    assert reading.channels["14-20"].kind == "dm"


def test_a_picture_in_a_direct_message_takes_its_link_along(tmp_path: Path) -> None:
    address = "https://ton.twitter.com/dm/2/2/e07.jpg"
    reading = of_talk(
        tmp_path,
        dm("2", "look https://t.co/zz", mediaUrls=[address]),
        **{"data/direct_messages_media/2-e07.jpg": JPEG},
    )
    row = reading.messages()["2"]
    assert row["text"] == "look"
    assert row["attachments"][0]["name"] == "e07.jpg"


def test_a_groups_events_name_it_and_are_no_messages(tmp_path: Path) -> None:
    """They have no id in the archive: one made up would be another with each export."""
    at = {"createdAt": "2026-11-01T09:00:00.000Z", "initiatingUserId": ME}
    late = {**at, "createdAt": "2026-11-02T09:00:00.000Z"}
    rows = [
        talk(
            {"conversationNameUpdate": {**late, "name": "Ride on Sunday"}},
            {"conversationNameUpdate": {**at, "name": "Ride"}},
            {"joinConversation": {**at, "participantsSnapshot": [ME, "20"]}},
            {"participantsLeave": {**at, "userIds": ["20"]}},
            dm("3"),
            native="777",
        )
    ]
    name = "data/direct-messages-group.js"
    reading = read(archive(tmp_path, {name: js("direct_messages_group", rows)}))
    assert [e.message_id for e in reading.envelopes] == ["777:3"]
    assert reading.channels["777"].name == "Ride on Sunday"
    assert reading.channels["777"].kind == "group"
    assert reading.letters == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (tweet(1793707200123456789), "lost digits"),
        (tweet(None), "no id"),
        (tweet("6", created_at=None), "no created_at"),
        (tweet("6", created_at="yesterday"), "should look like"),
        ({"tweet": []}, "should be an object"),
        (7, "should be an object"),
    ],
)
def test_a_broken_post_is_a_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, broken: Any, reason: str
) -> None:
    reading = of_tweets(tmp_path, tweet("5"), broken, tweet("9"))
    assert sorted(reading.messages()) == ["5", "9"]
    assert reason in reading.letters[0].reason
    assert reading.letters[0].source == "data/tweets.js, item 2"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (dm(7), "lost digits"),
        (dm("7", sender=None), "no senderId"),
        (dm("7", createdAt="2026-11-03T10:00:00"), "time zone"),
        (dm("7", createdAt="9999-12-31T23:59:59Z"), "1970 and 2200"),
        ("text", "should be an object"),
        ({}, "names what it is"),
    ],
)
def test_a_broken_direct_message_is_a_dead_letter(tmp_path: Path, broken: Any, reason: str) -> None:
    reading = of_talk(tmp_path, dm("5"), broken)
    assert list(reading.messages()) == ["5"]
    assert reason in reading.letters[0].reason


def test_a_newer_archive_lands_only_what_is_new(tmp_path: Path) -> None:
    stores = stores_with_account(tmp_path / "home", "x")
    old = archive(tmp_path, {"data/tweets.js": js("tweets", [tweet("5"), tweet("6")])}, "old.zip")
    rows = [tweet("7"), tweet("6", source="app"), tweet("5", retweet_count="4")]
    new = archive(tmp_path, {"data/tweets-part0.js": js("tweets", rows)}, "new.zip")
    assert imported(stores, old).kept == 2
    counts = imported(stores, new)
    assert (counts.kept, counts.updated, counts.skipped) == (1, 1, 1)
