"""Compiles a script to an X archive: `data/*.js` and the media folders.

The archive holds the owner's own posts and both sides of the direct messages. Events of a group
(a join, a new name) carry no id there.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from communicator_pipeline.demo.script import MEDIA, Channel, Line, Script, number

Record = dict[str, Any]

_EPOCH = 1288834974657  # X's ids count milliseconds from here
_URL = re.compile(r"https?://\S*[^\s.,!?)]")
_LONGEST = 270  # a longer post is cut in tweets.js and whole in note-tweet.js


def compile_x(script: Script) -> dict[str, bytes]:
    """The files of the archive by their path."""
    media: dict[str, bytes] = {}
    posts = script.of("feed")
    tweets = [t for line in posts for t in _tweets(script, line, posts, media)]
    notes = [_note(script, line) for line in posts if "note" in line.flags]
    pairs = [c for c in script.channels.values() if c.kind == "dm"]
    groups = [c for c in script.channels.values() if c.kind == "dmgroup"]
    me = script.me
    account = {
        "email": "ana@harborbikes.example",
        "createdVia": "web",
        "username": _handle(script, script.owner),
        "accountId": me.id,
        "createdAt": "2021-06-08T17:22:41.305Z",
        "accountDisplayName": me.name,
    }
    bio = {"bio": "Cargo bikes, ferries, small families.", "location": "Lisboa"}
    parts: dict[str, list[Record]] = {
        "account": [{"account": account}],
        "profile": [{"profile": {"description": bio}}],
        "tweets": tweets[::-1],
        "note-tweet": notes,
        "direct-messages": [_talk(script, c, media) for c in pairs],
        "direct-messages-group": [_talk(script, c, media) for c in groups],
        "like": [],
    }
    files = {f"data/{name}.js": _dump(name, rows) for name, rows in parts.items()}
    info = {"userInfo": {"accountId": me.id, "userName": account["username"]}}
    manifest = f"window.__THAR_CONFIG = {json.dumps(info, indent=2)}"
    page = "<!doctype html><title>Your archive</title><p>Open the files in data/."
    files |= {"data/manifest.js": manifest.encode(), "Your archive.html": page.encode()}
    return {**files, **media}


def x_ids(script: Script) -> list[tuple[Line, str]]:
    """The message id of each line that has one; an edited post has one per version."""
    ids = []
    for line in script.lines:
        if line.broken or "event" in line.flags:
            continue
        ids.append((line, f"{_conversation_id(script, line.channel)}:{_id(line)}"))
        if line.channel == "feed" and (edit := line.edit()):
            ids.append((line, f"feed:{_id(line, edit[0])}"))
    return ids


def _dump(name: str, rows: list[Record]) -> bytes:
    body = json.dumps(rows, indent=2, ensure_ascii=False)
    return f"window.YTD.{name.replace('-', '_')}.part0 = {body}".encode()


def _handle(script: Script, key: str) -> str:
    return script.people[key].details[-1].removeprefix("@")


def _snowflake(moment: int, *parts: object) -> str:
    chance = number(moment, *parts, below=1000 << 22)
    return str(((moment * 1000 - _EPOCH) << 22) + chance)


def _id(line: Line, moment: int | None = None) -> str:
    return _snowflake(moment or line.moment, line.channel, line.who, line.text)


def _conversation_id(script: Script, key: str) -> str:
    channel = script.channels[key]
    if channel.kind != "dm":
        return channel.id
    return "-".join(sorted((script.people[m].id for m in channel.members), key=int))


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _short(url: str) -> str:
    return f"https://t.co/{number(url, below=16**10):010x}"


def _links(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text with short links, and what they stand for."""
    links = [(_short(url), url) for url in _URL.findall(text)]
    return _URL.sub(lambda match: _short(match[0]), text), links


def _tweets(script: Script, line: Line, posts: list[Line], media: dict[str, bytes]) -> list[Record]:
    native = _id(line)
    edit = line.edit()
    if edit is None or edit[1] is None:
        control = _control([native], line.moment)
        return [_tweet(script, line, posts, native, line.moment, line.text, control, media)]
    later = _id(line, edit[0])
    control = _control([native, later], line.moment)
    initial = {"initialTweetId": native, "editControlInitial": control["initial"]}
    return [
        _tweet(script, line, posts, native, line.moment, line.text, control, media),
        _tweet(script, line, posts, later, edit[0], edit[1], {"edit": initial}, media),
    ]


def _control(ids: list[str], moment: int) -> Record:
    return {
        "initial": {
            "editTweetIds": ids,
            "editableUntil": _iso(moment + 3600),
            "editsRemaining": str(6 - len(ids)),
            "isEditEligible": True,
        }
    }


def _tweet(
    script: Script,
    line: Line,
    posts: list[Line],
    native: str,
    moment: int,
    words: str,
    control: Record,
    media: dict[str, bytes],
) -> Record:
    if "note" in line.flags:
        cut = words[:_LONGEST].rsplit(" ", 1)[0]
        words = f"{cut}… https://x.com/i/web/status/{native}"
    short, links = _links(words)
    text = escape(short, quote=False)
    picture = line.note("photo")
    entities: Record = {
        "hashtags": [
            {"text": m[0][1:], "indices": _span(m)} for m in re.finditer(r"(?<!\w)#\w+", text)
        ],
        "symbols": [],
        "user_mentions": _mentions(script, text),
        "urls": [
            {
                "url": url,
                "expanded_url": whole,
                "display_url": whole.removeprefix("https://"),
                "indices": [str(text.index(url)), str(text.index(url) + len(url))],
            }
            for url, whole in links
        ],
    }
    likes, reposts = (line.note("likes") or "0 0").split(" ")
    tweet: Record = {
        "edit_info": control,
        "retweeted": False,
        "source": '<a href="https://mobile.twitter.com" rel="nofollow">Twitter Web App</a>',
        "entities": entities,
        "display_text_range": ["0", str(len(text))],
        "favorite_count": likes,
        "id_str": native,
        "truncated": False,
        "retweet_count": reposts,
        "id": native,
        "created_at": datetime.fromtimestamp(moment, UTC).strftime("%a %b %d %H:%M:%S +0000 %Y"),
        "favorited": False,
        "full_text": text,
        "lang": "fr" if line.conversation == "x-reply-fr" else "en",
    }
    if picture is not None:
        _add_picture(tweet, picture, native, media)
    if line.answers is not None:
        tweet |= _reply(script, line, posts)
    return {"tweet": tweet}


def _span(match: re.Match[str]) -> list[str]:
    return [str(match.start()), str(match.end())]


def _mentions(script: Script, text: str) -> list[Record]:
    known = {_handle(script, key): key for key in script.people}
    return [
        {
            "name": script.people[known[match[1]]].name,
            "screen_name": match[1],
            "indices": _span(match),
            "id_str": script.people[known[match[1]]].id,
            "id": script.people[known[match[1]]].id,
        }
        for match in re.finditer(r"(?<!\w)@(\w+)", text)
    ]


def _add_picture(tweet: Record, picture: str, native: str, media: dict[str, bytes]) -> None:
    name = f"G{number(picture, below=16**9):09x}.jpg"
    media[f"data/tweets_media/{native}-{name}"] = (MEDIA / picture).read_bytes()
    url = _short(picture)
    entry = {
        "expanded_url": f"https://twitter.com/anaduarte_hb/status/{native}/photo/1",
        "url": url,
        "media_url_https": f"https://pbs.twimg.com/media/{name}",
        "type": "photo",
        "display_url": url.replace("https://t.co/", "pic.twitter.com/"),
        "id_str": _snowflake(int(native) >> 42, picture),
    }
    tweet["full_text"] += f" {url}"
    tweet["entities"]["media"] = [entry]
    tweet["extended_entities"] = {"media": [entry]}


def _reply(script: Script, line: Line, posts: list[Line]) -> Record:
    """`>k` answers an own post; `>k@who` one that somebody else wrote, which is not here."""
    name, _, who = str(line.answers).partition("@")
    if who:
        before = line.moment - 60 - number(name, who, below=1200)
        status = _snowflake(before, who)
    else:
        who = script.owner
        status = _id(next(post for post in posts if post.name == name))
    person = script.people[who].id
    return {
        "in_reply_to_status_id": status,
        "in_reply_to_status_id_str": status,
        "in_reply_to_user_id": person,
        "in_reply_to_user_id_str": person,
        "in_reply_to_screen_name": _handle(script, who),
    }


def _note(script: Script, line: Line) -> Record:
    made = datetime.fromtimestamp(line.moment, UTC)
    core = {"styletags": [], "urls": [], "text": line.text, "mentions": [], "cashtags": []}
    return {
        "noteTweet": {
            "noteTweetId": _snowflake(line.moment - 1, "note", script.account),
            "updatedAt": _iso(line.moment),
            "lifecycle": {"value": "3", "name": "Published"},
            "createdAt": (made - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "core": core | {"hashtags": []},
        }
    }


def _talk(script: Script, channel: Channel, media: dict[str, bytes]) -> Record:
    native = _conversation_id(script, channel.key)
    events = [_event(script, channel, line, media) for line in script.of(channel.key)]
    return {"dmConversation": {"conversationId": native, "messages": events[::-1]}}


def _event(script: Script, channel: Channel, line: Line, media: dict[str, bytes]) -> Record:
    sender = script.people[line.who].id
    made = {"createdAt": _iso(line.moment)}
    kind = line.flags.get("event")
    if kind == "joinConversation":
        everybody = [script.people[key].id for key in line.text.split()]
        return {kind: {"initiatingUserId": sender, "participantsSnapshot": everybody, **made}}
    if kind is not None:
        return {kind: {"initiatingUserId": sender, "name": line.text, **made}}
    text, links = _links(line.text)
    native = _id(line)
    pictures = []
    for picture in line.all_notes("photo"):
        folder = "direct_messages" if channel.kind == "dm" else "direct_messages_group"
        media[f"data/{folder}_media/{native}-{picture}"] = (MEDIA / picture).read_bytes()
        pictures.append(f"https://ton.twitter.com/dm/{native}/{native}/{picture}")
        text = f"{text} {_short(picture)}"
    message: Record = {
        "reactions": [r for value in line.all_notes("react") for r in _react(script, line, value)],
        "urls": [
            {"url": url, "expanded": whole, "display": whole.removeprefix("https://")}
            for url, whole in links
        ],
        "text": text,
        "mediaUrls": pictures,
        "senderId": sender,
        "id": native,
        "editHistory": [],
        **made,
    }
    if channel.kind == "dm":
        other = next(key for key in channel.members if key != line.who)
        message["recipientId"] = script.people[other].id
    return {"messageCreate": message}


def _react(script: Script, line: Line, value: str) -> list[Record]:
    key, who = value.split(" ")
    return [
        {
            "senderId": script.people[person].id,
            "reactionKey": key,
            "eventId": _snowflake(line.moment + 40 * place, person),
            "createdAt": _iso(line.moment + 40 * place),
        }
        for place, person in enumerate(who.split(","), start=1)
    ]
