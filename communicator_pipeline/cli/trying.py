"""`communicator group` and `analyze`: try it on a file, without any store."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import pandas as pd
import pyarrow as pa
import typer

from communicator_pipeline.analysis import OfflineAnalyser
from communicator_pipeline.chain.conversations import readable_messages
from communicator_pipeline.cli.output import DEAD_LETTERED, err, errors_in_words, fail
from communicator_pipeline.grouping import group
from communicator_pipeline.ingestion.exports import open_export
from communicator_pipeline.ingestion.merge import message_versions
from communicator_pipeline.messages import LONGEST_TRANSCRIPT, Transcript, Turn
from communicator_pipeline.platforms.archive import BrokenFile
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import ENVELOPE_SCHEMA, Envelope

File = Annotated[Path, typer.Argument(help="A JSONL file (docs/jsonl.md), or any export.")]


def group_file(file: File) -> None:
    """Group a file's messages: one JSON line per message with its conversation and why."""
    with errors_in_words():
        messages, _, broken = _read(file)
        membership, _ = group(messages, None, {})
    names = dict(zip(messages["message_id"], messages["native_id"], strict=True))
    for row in membership.to_dict("records"):
        parent = row["parent_message_id"]
        _line(
            {
                "id": names[row["message_id"]],
                "conversation_id": names.get(row["conversation_id"], row["conversation_id"]),
                "parent_id": names.get(parent, parent) if isinstance(parent, str) else None,
                "link_reason": row["link_reason"],
                "link_score": row["link_score"],
                "link_why": row["link_why"],
            }
        )
    _end(broken)


def analyze_file(
    file: File,
    me: Annotated[
        list[str] | None, typer.Option(help="The author id that is you. May be given again.")
    ] = None,
) -> None:
    """Analyse a file's conversations: one JSON line per conversation."""
    with errors_in_words():
        messages, names, broken = _read(file)
        membership, _ = group(messages, None, {})
        known = set(messages["author_id"])
        unknown = sorted(set(me or ()) - known)
        if unknown:
            fail(f"nobody in the file has the author id {', '.join(unknown)}", 2)
        transcripts = _transcripts(messages, membership, names, frozenset(me or ()))
        analyses = OfflineAnalyser().analyse(transcripts)
    natives = dict(zip(messages["message_id"], messages["native_id"], strict=True))
    for transcript, analysis in zip(transcripts, analyses, strict=True):
        row = asdict(analysis)
        row["conversation_id"] = natives.get(analysis.conversation_id, analysis.conversation_id)
        row["summary_message_ids"] = [natives[m] for m in analysis.summary_message_ids]
        row["messages"] = [natives[turn.message_id] for turn in transcript.turns]
        _line(row)
    _end(broken)


def _read(file: Path) -> tuple[pd.DataFrame, dict[str, str], int]:
    """The file's messages as the grouping takes them, names by id, and how many were broken."""
    opened = open_export(file)
    envelopes: list[Envelope] = []
    names: dict[str, str] = {}
    letters: list[DeadLetter] = []
    for part in opened.export.parts():
        try:
            for record in opened.export.records(part):
                if isinstance(record, Envelope):
                    envelopes.append(record)
                elif isinstance(record, Person):
                    names[record.person_id] = record.name
                elif isinstance(record, Channel):
                    names[record.channel_id] = record.name
                else:
                    letters.append(record)
        except BrokenFile as broken:
            letters.append(DeadLetter("import", part, str(broken)))
    if not envelopes and not letters:
        fail(f"{file} holds no messages")
    columns = list(zip(*envelopes, strict=True)) or [()] * 10
    arrays = [pa.array(c, f.type) for c, f in zip(columns, ENVELOPE_SCHEMA, strict=False)]
    keys = pa.nulls(len(envelopes), pa.uint64())
    table = pa.table([*arrays, keys], schema=ENVELOPE_SCHEMA)
    tables, unreadable = message_versions(table, opened.platform.normalise)
    letters += unreadable
    for letter in letters:
        err.print(f"{letter.source}: {letter.reason}", markup=False, soft_wrap=True)
    versions = pa.concat_tables(tables.values()) if tables else None
    if versions is None:
        fail(f"{file} holds no message that could be read")
    frame = readable_messages(versions, names)
    latest = versions.filter(versions["latest"]).to_pylist()
    bots = {row["message_id"]: row["author_is_bot"] for row in latest}
    files = {row["message_id"]: [file["name"] for file in row["attachments"]] for row in latest}
    frame["is_bot"] = frame["message_id"].map(bots)
    frame["files"] = frame["message_id"].map(files)
    frame["native_id"] = [
        message[len(channel) + 1 :]
        for message, channel in zip(frame["message_id"], frame["channel_id"], strict=True)
    ]
    return frame, names, len(letters)


def _transcripts(
    messages: pd.DataFrame, membership: pd.DataFrame, names: dict[str, str], me: frozenset[str]
) -> list[Transcript]:
    rows = messages.merge(membership[["message_id", "conversation_id"]]).sort_values(
        ["sent_at", "message_id"]
    )
    turns: dict[str, list[Turn]] = defaultdict(list)
    place: dict[str, dict[str, Any]] = {}
    newest = datetime(1970, 1, 1, tzinfo=UTC)
    for row in rows.to_dict("records"):
        sent_at = row["sent_at"].to_pydatetime()
        newest = max(newest, sent_at)
        place.setdefault(row["conversation_id"], {str(k): v for k, v in row.items()})
        turns[row["conversation_id"]].append(
            Turn(
                row["message_id"],
                sent_at,
                row["author_id"],
                row["author_name"] or row["author_id"],
                row["author_id"] in me,
                row["text"],
                kind=row["kind"],
                deleted=bool(row["deleted"]),
                is_bot=bool(row["is_bot"]),
                attachments=tuple(row["files"]),
                mentions=tuple(row["mentions"]),
            )
        )
    my_names = tuple(names[person] for person in sorted(me) if names.get(person))
    transcripts = []
    for key, said in turns.items():
        if all(turn.kind == "system" or turn.deleted for turn in said):
            continue
        left_out = max(0, len(said) - LONGEST_TRANSCRIPT)
        where = place[key]
        transcripts.append(
            Transcript(
                key,
                where["channel_id"],
                names.get(where["channel_id"], where["channel_id"]),
                where["channel_kind"],
                newest + timedelta(seconds=1),
                tuple([said[0], *said[left_out + 1 :]] if left_out else said),
                left_out,
                me,
                my_names,
            )
        )
    return transcripts


def _line(row: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(row) + b"\n")


def _end(broken: int) -> None:
    sys.stdout.flush()
    if broken:
        raise typer.Exit(DEAD_LETTERED)
