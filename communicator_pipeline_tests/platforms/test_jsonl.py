"""JSONL: what `docs/jsonl.md` promises, and what becomes of lines that do not keep to it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.platforms.archive import BrokenFile
from communicator_pipeline.platforms.lines import LONGEST_LINE
from communicator_pipeline_tests.platforms.reading import (
    Reading,
    imported,
    read,
    stores_with_account,
)

DOCS = Path(__file__).parents[2] / "docs" / "jsonl.md"
BASE = {"id": "1", "channel": "ops", "sent_at": "2026-11-03T09:12:44Z", "author": "u1"}


def line(**more: Any) -> str:
    return json.dumps({**BASE, "text": "hello", **more}, ensure_ascii=False)


def of_lines(tmp_path: Path, *lines: str, name: str = "chat.jsonl") -> Reading:
    path = tmp_path / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return read(path)


def test_the_documents_example_is_read_whole(tmp_path: Path) -> None:
    """What the document shows is what people will write."""
    [example] = re.findall(r"```jsonl\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    reading = of_lines(tmp_path, example)
    assert reading.letters == []
    assert len(reading.envelopes) == example.strip().count("\n")
    assert reading.export.me
    assert len(reading.messages()) > 3


def test_every_field_arrives(tmp_path: Path) -> None:
    reading = of_lines(
        tmp_path,
        line(
            id="2",
            author_name="Maya",
            author_is_bot=True,
            thread_id="1",
            reply_to="1",
            edited_at="2026-11-03T11:00:00+01:00",
            mentions=["u2"],
            attachments=["a.pdf", {"name": "b.png", "mime": "image/png", "bytes": 7, "url": "u"}],
            reactions={"👍": 2},
            channel_name="Operations",
            channel_kind="group",
        ),
        line(id="3", kind="system", author=None),
        line(id="4", deleted=True, text=None),
    )
    found = reading.messages()
    assert found["2"]["author_name"] == "Maya"
    assert found["2"]["author_is_bot"]
    assert found["2"]["thread_id"] == found["2"]["reply_to"] == "ops:1"
    assert found["2"]["edited_at"].isoformat() == "2026-11-03T10:00:00+00:00"
    assert [a["name"] for a in found["2"]["attachments"]] == ["a.pdf", "b.png"]
    assert (found["2"]["channel_kind"], found["3"]["kind"]) == ("group", "system")
    assert found["4"]["deleted"]
    assert found["4"]["text"] == ""
    assert reading.channels["ops"].name == "Operations"
    assert reading.people["u1"].name == "Maya"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (line(id=12345678901234567890), "numbers lose digits"),
        (line(channel=7), "numbers lose digits"),
        (line(reply_to=7), "numbers lose digits"),
        (line(id=None), "no 'id'"),
        (line(id=""), "1 to 500"),
        (line(id=["1"]), "should be a text"),
        (line(sent_at="2026-11-03T09:12:44"), "does not say its time zone"),
        (line(sent_at="2026-11-03"), "does not say its time zone"),
        (line(sent_at=1793707200), "sent_at should be a text"),
        (line(sent_at="soon"), "is not a time"),
        (line(sent_at=None), "no 'sent_at'"),
        (line(sent_at="9999-12-31T23:59:59-23:59"), "between the years"),
        (line(author=None), "no 'author'"),
        (line(text=None), "neither text nor attachments"),
        (line(text=7), "text should be a text"),
        (line(kind="post"), "kind should be"),
        (line(channel_kind="room"), "channel_kind should be"),
        (line(mentions="u1"), "mentions should be a list"),
        (line(deleted="no"), "true or false"),
        ("[1, 2]", "hold an object"),
        ('{"id": "1", ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"text": "\\ud83d"}', "not valid JSON"),
    ],
)
def test_a_broken_line_is_a_dead_letter_that_says_why(
    tmp_path: Path, broken: str, reason: str
) -> None:
    reading = of_lines(tmp_path, line(id="8"), broken, line(id="9"))
    assert sorted(reading.messages()) == ["8", "9"]
    [letter] = reading.letters
    assert reason in letter.reason
    assert letter.source == "chat.jsonl, line 2"
    assert letter.payload
    assert len(letter.payload) <= 64_000


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    reading = of_lines(tmp_path, line(id="8"), "x" * (LONGEST_LINE * 2 + 5), line(id="9"))
    assert sorted(reading.messages()) == ["8", "9"]
    assert "longer than" in reading.reasons[0]


def test_a_newer_version_of_the_format_is_refused_in_words(tmp_path: Path) -> None:
    reading = of_lines(tmp_path, '{"communicator_jsonl": 2}', line())
    assert reading.envelopes == []
    assert "update it" in reading.broken[0]


def test_any_name_is_read_if_the_first_line_is_of_the_format(tmp_path: Path) -> None:
    assert of_lines(tmp_path, line(), name="dump").platform.name == "generic"
    assert of_lines(tmp_path, '{"communicator_jsonl": 1}', line(), name="a.txt").messages()


def test_a_packed_file_is_read_and_a_packed_bomb_is_not(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl.gz"
    path.write_bytes(gzip.compress(("\ufeff" + line()).encode()))
    assert list(read(path).messages()) == ["1"]
    path.write_bytes(gzip.compress((b"x" * 1_000 + b"\n") * 5_000))
    assert "bomb" in read(path).broken[0]
    path.write_bytes(gzip.compress("\n".join(line(id=str(n)) for n in range(999)).encode())[:-900])
    cut = read(path)
    assert cut.envelopes
    assert "damaged" in cut.broken[0]


def test_utf16_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_bytes(line().encode("utf-16"))
    assert "save it as UTF-8" in read(path).broken[0]


def test_spelling_and_names_are_no_new_version_but_a_text_is(tmp_path: Path) -> None:
    """Keys in another order, a person with a new name: the message has not changed."""
    stores = stores_with_account(tmp_path / "home", "generic")
    path = tmp_path / "chat.jsonl"
    path.write_text(line(id="1") + "\n" + line(id="2"))
    assert imported(stores, path).kept == 2
    turned = dict(reversed(json.loads(line(id="1")).items()))
    path.write_text(json.dumps(turned | {"author_name": "Maya"}) + "\n" + line(id="2", text="new"))
    counts = imported(stores, path)
    assert (counts.kept, counts.updated, counts.skipped) == (0, 1, 1)


def test_nothing_else_is_taken_for_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b'{"something": "else"}\n')
    with pytest.raises((BrokenFile, ValueError), match="not an export"):
        read(path)
