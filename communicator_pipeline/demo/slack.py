"""Compiles a script to a Slack workspace export: the newer form, and the older one.

The newer form is what Slack gives today: `blocks` beside `text`, threads that count their
replies, tombstones. The older one is what lies in old backups: public channels only, edits and
deletions as records of their own, uploads as `file_share`, bots without a user.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from communicator_pipeline.demo.script import SYSTEM, Channel, Line, Person, Script, number

Record = dict[str, Any]

_TOKEN = re.compile(
    r"<@(?P<user>[\w-]+)>|<#(?P<channel>[\w-]+)>|<!(?P<range>\w+)>"
    r"|(?P<url>https?://\S*[^\s.,!?)])|(?<![\w:]):(?P<emoji>[a-z+][a-z0-9_+-]*):"
    r"|\*(?P<bold>[^*\n]+)\*|`(?P<code>[^`\n]+)`"
)

_NAMES = {"channel": "channels", "group": "groups", "dm": "dms", "mpim": "mpims"}


def compile_slack(script: Script) -> dict[str, bytes]:
    """The files of the export by their path; the script's workspace says which form."""
    old = _is_old(script)
    lists: dict[str, list[Record]] = {name: [] for name in _NAMES.values()}
    files: dict[str, bytes] = {}
    for channel in script.channels.values():
        lists[_NAMES[channel.kind]].append(_channel(script, channel))
        days: dict[str, list[Record]] = defaultdict(list)
        for record in _records(script, channel, old):
            moment = float(record.get("ts") or record["client_ts"])
            record.pop("client_ts", None)
            days[datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")].append(record)
        folder = channel.id if channel.kind == "dm" else channel.key
        files |= {f"{folder}/{day}.json": _dump(records) for day, records in days.items()}
    files["users.json"] = _dump([_user(script, p, old) for p in script.people.values() if _uid(p)])
    files["integration_logs.json"] = _dump([])
    for name, entries in lists.items():
        if entries or not old:
            files[f"{name}.json"] = _dump(entries)
    return files


def slack_ids(script: Script) -> list[tuple[Line, str]]:
    """The message id of each line that is not broken."""
    return [
        (line, f"{script.channels[line.channel].id}:{_ts(script, line)}")
        for line in script.lines
        if not line.broken
    ]


def _dump(value: object) -> bytes:
    # Slack's own writer escapes slashes and everything beyond ASCII.
    return json.dumps(value, indent=4).replace("/", "\\/").encode()


def _ts(script: Script, line: Line) -> str:
    if _is_old(script):
        return f"{line.moment}.{2 + number(line.channel, line.text, below=40):06d}"
    return f"{line.moment}.{number(script.account, line.channel, line.at, below=900000) + 100:06d}"


def _is_old(script: Script) -> bool:
    return "old" in script.workspace


def _uid(person: Person) -> str | None:
    """A bot has a user only when it is an app of today's kind."""
    if person.role != "bot":
        return person.id
    return "U" + person.id[1:] if "app" in person.details else None


def _user(script: Script, person: Person, old: bool) -> Record:
    team = person.details[-1] if person.role == "guest" else script.workspace[0]
    title = person.details[1] if len(person.details) > 1 else ""
    profile: Record = {"real_name": person.name, "title": title}
    user: Record = {
        "id": _uid(person),
        "name": person.key,
        "deleted": False,
        "real_name": person.name,
        "profile": profile,
        "is_bot": person.role == "bot",
    }
    if not old:
        profile |= {
            "real_name_normalized": person.name,
            "display_name": person.name.split(" ")[0],
            "display_name_normalized": person.name.split(" ")[0],
            "team": team,
        }
        user |= {"team_id": team, "tz": "Europe/Lisbon", "updated": 1790000000}
        if person.role == "guest":
            user["is_stranger"] = True
    return user


def _channel(script: Script, channel: Channel) -> Record:
    created = 1700000000 + number(channel.id, below=50000000)
    members = [script.people[key].id for key in channel.members]
    if channel.kind == "dm":
        return {"id": channel.id, "created": created, "members": members}
    return {
        "id": channel.id,
        "name": channel.key,
        "created": created,
        "creator": members[0],
        "is_archived": False,
        "is_general": channel.key == "general",
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": channel.about, "creator": members[0], "last_set": created},
    }


def _records(script: Script, channel: Channel, old: bool) -> list[Record]:
    lines = script.of(channel.key)
    records = [r for line in lines for r in (_old if old else _new)(script, line, lines)]
    return sorted(records, key=lambda record: str(record.get("ts") or record["client_ts"]))


def _text(script: Script, text: str, *, names: bool = False) -> str:
    """Slack's markup: mentions by id, links in angle brackets, `&`, `<` and `>` escaped."""
    out, end = [], 0
    for match in _TOKEN.finditer(text):
        out.append(_escape(text[end : match.start()]))
        kind, value = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "user":
            label = f"|{value}" if names else ""
            out.append(f"<@{script.people[value].id}{label}>")
        elif kind == "channel":
            out.append(f"<#{script.channels[value].id}|{value}>")
        elif kind == "range":
            out.append(f"<!{value}>")
        elif kind == "url":
            out.append(f"<{_escape(value)}>")
        else:
            out.append(_escape(match[0]))
        end = match.end()
    return "".join([*out, _escape(text[end:])])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(script: Script, text: str) -> list[Record]:
    """The same words as rich text."""
    elements: list[Record] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            elements.append({"type": "text", "text": text[end : match.start()]})
        kind, value = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "user":
            elements.append({"type": "user", "user_id": script.people[value].id})
        elif kind == "channel":
            elements.append({"type": "channel", "channel_id": script.channels[value].id})
        elif kind == "range":
            elements.append({"type": "broadcast", "range": value})
        elif kind == "url":
            elements.append({"type": "link", "url": value})
        elif kind == "emoji":
            elements.append({"type": "emoji", "name": value})
        else:
            elements.append({"type": "text", "text": value, "style": {kind: True}})
        end = match.end()
    if end < len(text):
        elements.append({"type": "text", "text": text[end:]})
    section = {"type": "rich_text_section", "elements": elements}
    block = f"{number(text, below=16**5):05x}"
    return [{"type": "rich_text", "block_id": block, "elements": [section]}]


def _new(script: Script, line: Line, lines: list[Line]) -> list[Record]:
    person, ts = script.people[line.who], _ts(script, line)
    record: Record = {"type": "message", "ts": ts}
    if line.conversation == SYSTEM:
        text = f"<@{person.id}> {line.text}"
        return [record | {"subtype": "channel_join", "user": person.id, "text": text}]
    record |= _author(script, person)
    record["text"] = _text(script, line.text)
    if person.role != "bot":
        digest = sha256(f"{script.account}{ts}".encode()).hexdigest()[:32]
        record["client_msg_id"] = str(UUID(digest))
        record["blocks"] = _blocks(script, line.text)
    if edit := line.edit():
        record["edited"] = {"user": person.id, "ts": f"{edit[0]}.000000"}
    if reactions := line.all_notes("react"):
        record["reactions"] = [_reaction(script, value) for value in reactions]
    if files := line.all_notes("file"):
        record |= {"files": [_file(script, line, value) for value in files], "upload": False}
    if line.answers is not None:
        root = next(other for other in lines if other.name == line.answers)
        root_ts, by = _ts(script, root), script.people[root.who]
        record |= {"thread_ts": root_ts, "parent_user_id": _uid(by) or ""}
        if "broadcast" in line.flags:
            record["subtype"] = "thread_broadcast"
            record["root"] = {"ts": root_ts, "user": _uid(by), "text": _text(script, root.text)}
    if line.name is not None:
        record |= _thread(script, line, lines)
    if "deleted" in line.flags:
        record = _tombstone(record)
    if "nots" in line.flags:
        record["client_ts"] = record.pop("ts")
    return [record]


def _author(script: Script, person: Person) -> Record:
    if person.role != "bot":
        team = person.details[-1] if person.role == "guest" else script.workspace[0]
        return {"user": person.id, "team": team, "user_team": team, "source_team": team}
    if user := _uid(person):
        profile = {"id": person.id, "name": person.name, "deleted": False}
        return {"user": user, "bot_id": person.id, "bot_profile": profile}
    return {"subtype": "bot_message", "bot_id": person.id, "username": person.name}


def _reaction(script: Script, value: str) -> Record:
    name, who = value.split(" ")
    users = [script.people[key].id for key in who.split(",")]
    return {"name": name, "users": users, "count": len(users)}


def _file(script: Script, line: Line, value: str) -> Record:
    name, mime, size = value.split(" ")
    native = f"F{number(name, line.at, below=36**8):011d}"[:11]
    url = f"https://files.slack.com/files-pri/{script.workspace[0]}-{native}/{name}"
    return {
        "id": native,
        "name": name,
        "title": name.rsplit(".", 1)[0],
        "mimetype": mime,
        "filetype": name.rsplit(".", 1)[1],
        "size": int(size),
        "user": script.people[line.who].id,
        "created": line.moment,
        "timestamp": line.moment,
        "mode": "hosted",
        "is_external": False,
        "url_private": url,
        "url_private_download": url.replace(f"/{name}", f"/download/{name}"),
        "permalink": f"https://{script.workspace[1]}.slack.com/files/{native}/{name}",
    }


def _thread(script: Script, line: Line, lines: list[Line]) -> Record:
    ts, answers = _ts(script, line), [other for other in lines if other.answers == line.name]
    if not answers:
        return {}
    replies = [{"user": script.people[a.who].id, "ts": _ts(script, a)} for a in answers]
    users = list(dict.fromkeys(reply["user"] for reply in replies))
    return {
        "thread_ts": ts,
        "reply_count": len(replies),
        "reply_users_count": len(users),
        "latest_reply": replies[-1]["ts"],
        "reply_users": users,
        "replies": replies,
        "is_locked": False,
        "subscribed": True,
    }


def _tombstone(record: Record) -> Record:
    kept = ("type", "ts", "thread_ts", "reply_count", "reply_users_count", "latest_reply")
    gone = {key: record[key] for key in (*kept, "reply_users", "replies") if key in record}
    text = "This message was deleted."
    return gone | {"subtype": "tombstone", "user": "USLACKBOT", "text": text, "hidden": True}


def _old(script: Script, line: Line, lines: list[Line]) -> list[Record]:
    person, ts = script.people[line.who], _ts(script, line)
    text = _text(script, line.text, names=True)
    record: Record = {"type": "message", "ts": ts}
    if line.conversation == SYSTEM:
        text = f"<@{person.id}|{person.key}> {line.text}"
        return [record | {"subtype": "channel_join", "user": person.id, "text": text}]
    if person.role == "bot":
        return [record | {"subtype": "bot_message", "text": text, "username": person.name}]
    record |= {"user": person.id, "text": text}
    if value := line.note("file"):
        file = _file(script, line, value) | {"initial_comment": {"comment": line.text}}
        link = f"<{file['permalink']}|{file['title']}>"
        uploaded = f"<@{person.id}|{person.key}> uploaded a file: {link}"
        record |= {"subtype": "file_share", "file": file, "upload": True}
        record["text"] = f"{uploaded} and commented: {text}"
    records = [record]
    if edit := line.edit():
        at = f"{edit[0]}.000003"
        changed = record | {"text": _text(script, edit[1] or line.text, names=True)}
        changed["edited"] = {"user": person.id, "ts": f"{edit[0]}.000000"}
        records.append(_event("message_changed", at, message=changed, previous_message=record))
    if "deleted" in line.flags:
        at = f"{line.moment + 95}.000004"
        records.append(_event("message_deleted", at, deleted_ts=ts, previous_message=record))
    return records


def _event(subtype: str, ts: str, **more: object) -> Record:
    return {"type": "message", "subtype": subtype, "hidden": True, "ts": ts, **more}
