"""X's archive: `data/*.js`, each a JSON list behind `window.YTD.<name>.part0 =`, and media.

https://help.x.com/en/managing-your-account/how-to-download-your-x-archive (read 2026-11); the
`README.txt` in every archive describes the files. Larger ones come in parts (`tweets-part1.js`),
older archives spell `tweet.js` and `direct-message.js`.

Decisions: a post that was edited has an id for each version, and each is a message; the later ones
belong to the thread of the first. Events of a group (a join, a new name) have no id in the archive
and are no messages; a new name is the channel's. A deleted post becomes a tombstone, its text is
not kept. What a payload cannot say by itself is added under `communicator`: `author` (whose archive
it is), `note` (the whole of a long post that `tweets.js` cuts).
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, BrokenFile, read_items
from communicator_pipeline.platforms.instants import EPOCH, day_of, iso_micros, micros_of, moment
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.landing import Envelope

DIRECTORY = "account and people"
FEED = "feed"

_FILE = re.compile(
    r"(?:data/)?(?P<what>tweets?|community-tweets?|deleted-tweets?|deleted-tweet-headers|"
    r"note-tweets?|direct-messages?|direct-messages?-groups?|account|manifest)"
    r"(?:-part\d+)?\.js"
)
_MEDIA = re.compile(
    r"(?:data/)?(?:(?:deleted_|community_)?tweets?|direct_messages?(?:_group)?)_media/"
    r"(?P<id>\d+)-[^/]+"
)
_TWEET_TIME = "%a %b %d %H:%M:%S %z %Y"
_CUT = re.compile(r"(?:…|\.\.\.)?\s*https?://\S+\s*$")
_URL = re.compile(r"https?://")
_SURE = 40  # characters: as much of a long post must be equal to call it the same


def is_x(archive: Archive) -> bool:
    files = {m["what"] for m in map(_FILE.fullmatch, archive.names) if m}
    return any("tweet" in what or "message" in what for what in files) or files == {
        "account",
        "manifest",
    }


class XArchive:
    """An archive. Raises `BrokenFile` if it does not say whose it is."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.title = f"X archive {archive.path.name}"
        self._files: dict[str, list[str]] = defaultdict(list)
        self._media: dict[str, list[str]] = defaultdict(list)  # id of post or message → paths
        for name in archive.names:
            if match := _FILE.fullmatch(name):
                self._files[match["what"].replace("tweets", "tweet")].append(name)
            elif match := _MEDIA.fullmatch(name):
                self._media[match["id"]].append(name)
        self._account = self._whose()
        self.me = frozenset([self._account["accountId"]])
        self.account_hint = str(self._account.get("username") or "")

    def parts(self) -> Sequence[str]:
        wanted = ("tweet", "community-tweet", "deleted-tweet", "deleted-tweet-headers")
        posts = [name for what in wanted for name in self._files[what]]
        talks = [name for what in self._files if "message" in what for name in self._files[what]]
        return [DIRECTORY, *posts, *sorted(talks)]

    def records(self, part: str) -> Iterator[Record]:
        if part == DIRECTORY:
            yield from self._directory()
        elif "message" in part:
            yield from self._talks(part)
        else:
            yield from self._posts(part)

    def _whose(self) -> dict[str, Any]:
        for name in self._files["account"]:
            for item in read_items(self.archive, name):
                account = item.get("account") if isinstance(item, dict) else None
                if isinstance(account, dict) and isinstance(account.get("accountId"), str):
                    return account
        raise BrokenFile(
            f"{self.archive.path.name} has no data/account.js that says whose archive it is: "
            "import the archive as X gave it, the ZIP or its whole folder"
        )

    @cached_property
    def _people(self) -> dict[str, Person]:
        """Whom the posts name, as the newest of them does. Direct messages have ids only."""
        people: dict[str, Person] = {}
        for name in [n for w in ("tweet", "community-tweet") for n in self._files[w]]:
            try:
                for item in read_items(self.archive, name):
                    for person in _named(item):
                        known = people.get(person.person_id)
                        if known is None or known.seen_at <= person.seen_at:
                            people[person.person_id] = person
            except BrokenFile:
                continue  # reading the posts will say it
        return people

    def _directory(self) -> Iterator[Record]:
        own = self._account
        me = own["accountId"]
        newest = max((p.seen_at for p in self._people.values()), default=EPOCH)
        name = str(own.get("accountDisplayName") or own.get("username") or me)
        yield from (p for p in self._people.values() if p.person_id != me)
        yield Person(me, name, newest, str(own.get("username") or ""))
        yield Channel(FEED, "Posts", "feed", newest)

    def _posts(self, part: str) -> Iterator[Record]:
        is_deletion = "deleted" in part
        for place, item in enumerate(read_items(self.archive, part), start=1):
            try:
                post = _inside(item, "tweet")
                yield self._deletion(post, part) if is_deletion else self._post(post, part)
            except Exception as error:  # whatever a stranger's record does to a parser
                yield dead_letter(error, f"{part}, item {place}", item)

    def _post(self, post: dict[str, Any], part: str) -> Envelope:
        native = text_id(post.get("id_str") or post.get("id"), "the post")
        sent = post_micros(post)
        added: dict[str, Any] = {"author": self._account["accountId"]}
        if note := self._note_of(post, sent):
            added["note"] = note
        files = dict.fromkeys(self._media.get(native, ()), "")
        lasting: list[Any] = [
            post.get("full_text", post.get("text")),
            post.get("in_reply_to_status_id_str"),
            [post.get("favorite_count"), post.get("retweet_count")],
            added,
            len(files),
        ]
        return Envelope(
            day_of(sent),
            f"{FEED}:{native}",
            FEED,
            "feed",
            "message",
            sent,
            xxhash.xxh3_64_intdigest(orjson.dumps(lasting)),
            orjson.dumps(post | {"communicator": added}),
            orjson.dumps(files).decode() if files else None,
            part,
        )

    def _deletion(self, post: dict[str, Any], part: str) -> Envelope:
        native = text_id(post.get("id_str") or post.get("id") or post.get("tweet_id"), "the post")
        sent = post_micros(post)
        told = ("id_str", "tweet_id", "created_at", "deleted_at")
        payload = orjson.dumps(
            {key: post[key] for key in told if key in post}
            | {"communicator": {"author": self._account["accountId"]}}
        )
        gone = post.get("deleted_at")
        gone_at = _micros(gone, "deleted_at") if gone else sent
        day_of(gone_at)
        return Envelope(
            day_of(sent),
            f"{FEED}:{native}",
            FEED,
            "feed",
            "deletion",
            gone_at,
            xxhash.xxh3_64_intdigest(f"deleted {native}".encode()),
            payload,
            None,
            part,
        )

    @cached_property
    def _notes(self) -> dict[str, list[dict[str, Any]]]:
        """The long posts by their first words."""
        notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for name in self._files["note-tweet"]:
            try:
                for item in read_items(self.archive, name):
                    note = item.get("noteTweet") if isinstance(item, dict) else None
                    if not isinstance(note, dict) or not isinstance(note.get("core"), dict):
                        continue
                    if isinstance(text := note["core"].get("text"), str):
                        notes[text[:_SURE]].append(note)
            except BrokenFile:
                continue  # the posts stay cut, as X shows them
        return notes

    def _note_of(self, post: dict[str, Any], sent: int) -> dict[str, Any] | None:
        """The long post that this one is the beginning of: same words, made in that minute."""
        text = post.get("full_text")
        if not self._notes or not isinstance(text, str):
            return None
        begin = html.unescape(_CUT.sub("", text))
        begin = begin[: url.start()] if (url := _URL.search(begin)) else begin
        for note in self._notes.get(begin[:_SURE], ()) if len(begin) >= _SURE else ():
            core: dict[str, Any] = note["core"]
            made = note.get("createdAt")
            if not core["text"].startswith(begin.rstrip(" …")) or len(core["text"]) <= len(begin):
                continue
            if isinstance(made, str) and abs(_micros(made, "createdAt") - sent) <= 60_000_000:
                return core
        return None

    def _talks(self, part: str) -> Iterator[Record]:
        kind: ChannelKind = "group" if "group" in part else "dm"
        for place, item in enumerate(read_items(self.archive, part), start=1):
            try:
                talk = _inside(item, "dmConversation")
                talk_id = text_id(talk.get("conversationId"), "the conversation", "conversationId")
                events = talk.get("messages")
                if not isinstance(events, list):
                    raise TypeError("the conversation's messages should be a list")
            except Exception as error:  # whatever a stranger's record does to a parser
                yield dead_letter(error, f"{part}, item {place}", item)
                continue
            newest, named, name = 0, 0, ""
            others: list[str] = []
            for number, event in enumerate(events, start=1):
                try:
                    if (renamed := _new_name(event)) and renamed[0] >= named:
                        named, name = renamed
                    if (message := _message_in(event)) is None:
                        continue
                    envelope = self._direct_message(message, talk_id, kind, part)
                except Exception as error:  # whatever a stranger's record does to a parser
                    yield dead_letter(error, f"{part}, item {place}, message {number}", event)
                    continue
                newest = max(newest, envelope.version_at)
                sender, recipient = message["senderId"], message.get("recipientId")
                others.extend(p for p in (sender, recipient) if isinstance(p, str))
                yield envelope
            yield Channel(talk_id, name or self._title(talk_id, others), kind, moment(newest))

    def _direct_message(
        self, message: dict[str, Any], talk_id: str, kind: ChannelKind, part: str
    ) -> Envelope:
        native = text_id(message.get("id"), "the message")
        text_id(message.get("senderId"), "the sender", "senderId")
        sent = _micros(message.get("createdAt"), "createdAt")
        version_at = edited_micros(message) or sent
        day_of(version_at)
        files = dict.fromkeys(self._media.get(native, ()), "")
        links = message.get("urls") if isinstance(message.get("urls"), list) else []
        lasting = [
            message.get("text"),
            [link.get("expanded") if isinstance(link, dict) else None for link in links or ()],
            message.get("mediaUrls"),
            message.get("reactions"),
            message.get("editHistory") or None,
            len(files),
        ]
        return Envelope(
            day_of(sent),
            f"{talk_id}:{native}",
            talk_id,
            kind,
            "message",
            version_at,
            xxhash.xxh3_64_intdigest(orjson.dumps(lasting)),
            orjson.dumps(message),
            orjson.dumps(files).decode() if files else None,
            part,
        )

    def _title(self, talk_id: str, people: list[str]) -> str:
        pair = talk_id.split("-") if "-" in talk_id else []
        others = [p for p in dict.fromkeys([*pair, *people]) if p not in self.me]
        return ", ".join(self._people[p].name if p in self._people else p for p in others[:5]) or (
            str(self._account.get("accountDisplayName") or talk_id)
        )


def post_micros(post: dict[str, Any]) -> int:
    """When a post was made: as it says, or else as its id does."""
    return _micros(post.get("created_at"), "created_at")


def edited_micros(message: dict[str, Any]) -> int:
    """When a direct message was edited last; 0 if it was not."""
    times = [0]
    for edit in message.get("editHistory") or ():
        seconds = edit.get("createdAtSec") if isinstance(edit, dict) else None
        if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit():
            times.append(int(seconds) * 1_000_000)
    return max(times)


def text_id(value: Any, what: str, key: str = "id") -> str:
    """An id, which must have stayed text; raises ValueError."""
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        raise ValueError(f"{what} has no {key}: download the archive again")
    raise ValueError(f"{key} should be a text, it is {value!r}: as a number it has lost digits")


def _micros(value: Any, key: str) -> int:
    """`Wed Oct 28 09:12:44 +0000 2026` and `2026-10-28T09:12:44.000Z`."""
    if not isinstance(value, str):
        raise ValueError(
            f"it has no {key}: download the archive again"
            if value is None
            else f"{key} should be a text, it is {value!r}"
        )
    if value[:1].isdigit():
        return iso_micros(value)
    try:
        return micros_of(datetime.strptime(value, _TWEET_TIME).astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{key} should look like Wed Oct 28 09:12:44 +0000 2026, it is {value[:60]!r}"
        ) from None


def _inside(item: Any, key: str) -> dict[str, Any]:
    """What the item wraps; old archives do not wrap their posts."""
    if not isinstance(item, dict):
        raise TypeError(f"an item should be an object, this is {type(item).__name__}")
    inner = item.get(key, item)
    if not isinstance(inner, dict):
        raise TypeError(f"{key} should be an object, it is {type(inner).__name__}")
    return inner


def _message_in(event: Any) -> dict[str, Any] | None:
    """The message that an event of a conversation is, if it is one."""
    if not isinstance(event, dict):
        raise TypeError(f"an event should be an object, this is {type(event).__name__}")
    for key in ("messageCreate", "welcomeMessageCreate"):
        if key in event:
            return _inside(event, key)
    if not event or any(not isinstance(inner, dict) for inner in event.values()):
        raise TypeError("an event should be an object that names what it is")
    return None


def _new_name(event: Any) -> tuple[int, str] | None:
    change = event.get("conversationNameUpdate") if isinstance(event, dict) else None
    if not isinstance(change, dict) or not isinstance(change.get("name"), str):
        return None
    return _micros(change.get("createdAt"), "createdAt"), change["name"]


def _named(item: Any) -> Iterator[Person]:
    """The people whom a post mentions or answers."""
    try:
        post = _inside(item, "tweet")
        seen_at = moment(post_micros(post))
        if isinstance(who := post.get("in_reply_to_user_id_str"), str) and who:
            handle = post.get("in_reply_to_screen_name")
            if isinstance(handle, str) and handle:
                yield Person(who, handle, seen_at, handle)
        for mention in (post.get("entities") or {}).get("user_mentions") or ():
            who, handle = mention.get("id_str"), mention.get("screen_name")
            if isinstance(who, str) and who not in ("", "-1") and isinstance(handle, str):
                yield Person(who, str(mention.get("name") or handle), seen_at, handle)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return  # reading the posts will say what is wrong
