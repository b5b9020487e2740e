"""What X's API and its pushes hold → envelopes, people, channels. Pure and total.

Belongs here: which message an object is, and when it was sent. Does not belong here: asking
(`pulling.py`), checking signatures (`pushed.py`), what an object says (`normalise.py`).

Ids are those of the archive: `feed:<id>` for a post, `<conversation>:<id>` for a direct message. A
post has three forms: the archive's and the older pushes' (API 1.1), and API v2's in two spellings.
The digests of the archive count likes and files, which no other form tells alike, so a post that
comes in twice lands twice; it is one version all the same where both understand it as the same
(see docs/platforms/x.md).

As in the archive, an edited post has an id for each version, and each is a message; the later ones
belong to the thread of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms.instants import EPOCH, day_of, iso_micros, moment
from communicator_pipeline.platforms.protocol import Record
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.x.export import FEED, post_micros, text_id
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

SNOWFLAKE_EPOCH = 1_288_834_974_657
"""Milliseconds since 1970 UTC: https://docs.x.com/fundamentals/x-ids (read 2026-11)."""

_FIRST_SNOWFLAKE = 1 << 40  # older ids count up and tell no time


@dataclass(frozen=True, slots=True)
class Around:
    """What an answer says besides: `includes` of API v2, `users` of the pushes."""

    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by id
    media: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by media_key

    @classmethod
    def of(cls, includes: Any) -> Around:
        told = includes if isinstance(includes, dict) else {}
        users = told.get("users")
        entries = list(users.values()) if isinstance(users, dict) else _list(users)
        # The Activity API wraps some of them once more.
        opened = [_object(e).get("data", e) if isinstance(e, dict) else e for e in entries]
        found = {}
        for user in opened:
            user_id = _object(user).get("id_str") or _object(user).get("id")
            if isinstance(user_id, str) and user_id:
                found[user_id] = _object(user)
        media = [_object(entry) for entry in _list(told.get("media"))]
        return cls(found, {m["media_key"]: m for m in media if isinstance(m.get("media_key"), str)})

    def people(self, now: datetime) -> Iterator[Person]:
        for user_id, user in self.users.items():
            handle = user.get("username") or user.get("screen_name") or ""
            name = user.get("name") or handle
            if isinstance(name, str) and isinstance(handle, str) and name:
                yield Person(_sayable(user_id), _sayable(name), now, _sayable(handle))

    def name(self, user_id: str) -> str:
        user = self.users.get(user_id, {})
        name = user.get("name") or user.get("username") or user.get("screen_name")
        return _sayable(name) if isinstance(name, str) else ""


def read_post(post: Any, around: Around, stage: str, source: str) -> Record:
    """A post of API v2, in either spelling; a broken one is a dead letter."""
    try:
        return _post(post, around, source)
    except Exception as error:  # whatever a stranger's object does to a parser
        return broken(error, post, stage, source)


def read_direct_message(
    event: Any, around: Around, me: str, now: datetime, stage: str, source: str
) -> Iterator[Record]:
    """A direct message of API v2 and the conversation that it stands in."""
    try:
        if _object(event).get("event_type", "MessageCreate") != "MessageCreate":
            return
        envelope = _direct_message(event, around, source)
        channel = _conversation(envelope.channel_id, event["sender_id"], around, me, now)
    except Exception as error:  # whatever a stranger's object does to a parser
        yield broken(error, event, stage, source)
        return
    yield channel
    yield envelope


def read_old_post(post: Any, around: Around, me: str, stage: str, source: str) -> Iterator[Record]:
    """A post as the Account Activity API pushes it: in the form of API 1.1."""
    try:
        user = _object(post["user"])
        author = text_id(user.get("id_str"), "the author", "id_str")
        if "retweeted_status" in post and author != me:
            return  # somebody reposts: nothing is said
        native = text_id(post.get("id_str"), "the post", "id_str")
        sent = post_micros(post)
        envelope = _envelope(
            "message",
            FEED,
            "feed",
            native,
            sent,
            sent,
            [_words(post), post.get("in_reply_to_status_id_str")],
            {**post, "communicator": {"author": author}},
            source,
        )
    except Exception as error:  # whatever a stranger's object does to a parser
        yield broken(error, post, stage, source)
        return
    yield from Around.of({"users": [user]}).people(moment(sent))
    yield envelope


def read_old_direct_message(
    event: Any, around: Around, me: str, now: datetime, stage: str, source: str
) -> Iterator[Record]:
    """A direct message as it is pushed, put into the words of API v2.

    It names two people and no conversation; that is called by both ids, the smaller one first, as
    in the archive. Groups are not pushed.
    https://docs.x.com/x-api/activity/event-payloads (read 2026-11)
    """
    try:
        if _object(event).get("type") != "message_create":
            return
        created = event["message_create"]
        data = created["message_data"]
        sender = text_id(created["sender_id"], "the message", "sender_id")
        pair = [sender, text_id(created["target"]["recipient_id"], "the message", "recipient_id")]
        attached = _object(_object(data.get("attachment")).get("media"))
        address = attached.get("media_url_https")
        told = {
            "id": event.get("id"),
            "event_type": "MessageCreate",
            "sender_id": sender,
            "dm_conversation_id": "-".join(sorted(pair, key=int)),
            "created_at": _iso(int(event["created_timestamp"]) * 1_000),
            "text": data.get("text"),
            "entities": data.get("entities"),
            "communicator": {"media": [{"url": address}] if address else []},
            "pushed": event,
        }
    except Exception as error:  # whatever a stranger's object does to a parser
        yield broken(error, event, stage, source)
        return
    yield from read_direct_message(told, around, me, now, stage, source)


def read_deletion(
    native: Any, author: Any, gone: int | None, stage: str, source: str, told: Any
) -> Record:
    """Word of a post's deletion. When it was sent is in its id, what it said is not kept."""
    try:
        post_id = text_id(native, "the deleted post")
        sent = snowflake_micros(post_id)
        if sent is None:
            raise ValueError("the deleted post's id does not tell when it was sent")
        return _envelope(
            "deletion",
            FEED,
            "feed",
            post_id,
            sent,
            max(gone or sent, sent),
            f"deleted {post_id}",
            {
                "id_str": post_id,
                "created_at": _iso(sent),
                "communicator": {"author": str(author or "")},
            },
            source,
        )
    except Exception as error:  # whatever a stranger's object does to a parser
        return broken(error, told, stage, source)


def broken(error: Exception, item: Any, stage: str, source: str) -> DeadLetter:
    native = item.get("id") if isinstance(item, dict) else None
    name = f"{source}, {str(native)[:60]}" if native else source
    return dead_letter(error, name, item, stage=stage)


def post_author(post: Any) -> str:
    author = _object(post).get("author_id")
    return author if isinstance(author, str) else ""


def snowflake_micros(native: str) -> int | None:
    """When an id was made, in microseconds since 1970 UTC; None for one that does not tell."""
    if not (native.isascii() and native.isdigit()) or int(native) < _FIRST_SNOWFLAKE:
        return None
    return ((int(native) >> 22) + SNOWFLAKE_EPOCH) * 1_000


def references(post: Mapping[str, Any]) -> dict[str, str]:
    """What a post refers to: `replied_to`, `quoted`, `retweeted` → id."""
    found = {}
    for name in ("referenced_posts", "referenced_tweets"):
        for entry in _list(post.get(name)):
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                found[str(entry.get("type"))] = entry["id"]
    return found


def first_version(post: Mapping[str, Any]) -> str | None:
    """The id of an edited post's first version; None if it is that, or was not edited."""
    for name in ("edit_history_post_ids", "edit_history_tweet_ids"):
        ids = [i for i in _list(post.get(name)) if isinstance(i, str) and i.isdigit()]
        if ids and (first := min(ids, key=int)) != post.get("id"):
            return first
    return None


def _post(post: Any, around: Around, source: str) -> Envelope:
    if not isinstance(post, dict):
        raise TypeError(f"a post should be an object, this is {type(post).__name__}")
    native = text_id(post.get("id"), "the post")
    author = text_id(post.get("author_id"), "the post", "author_id")
    if not isinstance(post.get("text"), str):
        raise TypeError(f"text should be a text, it is {type(post.get('text')).__name__}")
    sent = _sent(post, native)
    keys = _list(_object(post.get("attachments")).get("media_keys"))
    media = [around.media[k] for k in keys if isinstance(k, str) and k in around.media]
    added: dict[str, Any] = {"author": author}
    if media:
        added["media"] = media
    note = _object(post.get("note_post") or post.get("note_tweet"))
    lasting = [post["text"], note.get("text"), sorted(references(post).items())]
    return _envelope(
        "message",
        FEED,
        "feed",
        native,
        sent,
        sent,
        [*lasting, post.get("conversation_id"), sorted(map(str, keys))],
        {**post, "communicator": added},
        source,
    )


def _direct_message(event: Any, around: Around, source: str) -> Envelope:
    if not isinstance(event, dict):
        raise TypeError(f"a message should be an object, this is {type(event).__name__}")
    native = text_id(event.get("id"), "the message")
    talk = text_id(event.get("dm_conversation_id"), "the message", "dm_conversation_id")
    text_id(event.get("sender_id"), "the message", "sender_id")
    sent = _sent(event, native)
    keys = _list(_object(event.get("attachments")).get("media_keys"))
    media = [around.media[k] for k in keys if isinstance(k, str) and k in around.media]
    payload = {**event, "communicator": {"media": media}} if media else event
    return _envelope(
        "message",
        talk,
        _talk_kind(talk),
        native,
        sent,
        sent,
        [event.get("text"), bool(keys or _object(event.get("communicator")).get("media"))],
        payload,
        source,
    )


def _conversation(talk: str, sender: str, around: Around, me: str, now: datetime) -> Channel:
    """The conversation's name: the other one's. What a group is called, the API does not tell; the
    archive does, and its word stands, for this name is dated before any other."""
    if _talk_kind(talk) == "dm":
        others = [person for person in talk.split("-") if person != me] or [me]
        name = around.name(others[0])
        return Channel(talk, name or others[0], "dm", now if name else EPOCH)
    return Channel(talk, f"Group with {around.name(sender) or sender}", "group", EPOCH)


def _talk_kind(talk: str) -> ChannelKind:
    return "dm" if "-" in talk else "group"


def _envelope(
    kind: str,
    channel: str,
    channel_kind: str,
    native: str,
    sent: int,
    version_at: int,
    lasting: Any,
    payload: Mapping[str, Any],
    source: str,
) -> Envelope:
    told = lasting.encode() if isinstance(lasting, str) else orjson.dumps(lasting)
    message_id = f"{channel}:{native}"
    message_id.encode()  # half a character in an id is the record's fault
    return Envelope(
        day_of(sent),
        message_id,
        channel,
        channel_kind,
        kind,
        version_at,
        xxhash.xxh3_64_intdigest(told),
        orjson.dumps(payload),
        None,
        source,
    )


def _sent(item: Mapping[str, Any], native: str) -> int:
    created = item.get("created_at")
    if created is None and (told := snowflake_micros(native)) is not None:
        return told
    if not isinstance(created, str):
        raise ValueError(f"created_at should be a time, it is {created!r}"[:200])
    return iso_micros(created)


def _words(post: Mapping[str, Any]) -> str:
    extended = _object(post.get("extended_tweet"))
    text = extended.get("full_text") or post.get("full_text") or post.get("text")
    if not isinstance(text, str):
        raise TypeError(f"text should be a text, it is {type(text).__name__}")
    return text


def _iso(micros: int) -> str:
    return moment(micros).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sayable(text: str) -> str:
    return text.encode(errors="replace").decode()
