"""Text logs: the spellings of IRC clients, and ids where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from communicator_pipeline_tests.platforms.reading import (
    Reading,
    imported,
    read,
    stores_with_account,
)


def of_log(tmp_path: Path, text: str | bytes, name: str = "#harbor.log") -> Reading:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("[2026-11-03 09:12:44] <maya> hi", "2026-11-03T09:12:44+00:00"),
        ("[2026-11-03 09:12:44] <@maya> hi", "2026-11-03T09:12:44+00:00"),
        ("2026-11-03T09:12:44Z maya: hi", "2026-11-03T09:12:44+00:00"),
        ("2026-11-03 09:12:44+01:00 <maya> hi", "2026-11-03T08:12:44+00:00"),
        ("2026-11-03 09:12:44\tmaya\thi", "2026-11-03T09:12:44+00:00"),
        ("--- Day changed Tue Nov 03 2026\n09:12 < maya> hi", "2026-11-03T09:12:00+00:00"),
        ("--- Log opened Tue Nov 03 08:00:00 2026\n09:12:44 <+maya> hi", "2026-11-03T09:12:44"),
    ],
)
def test_each_spelling_of_a_line_is_read(tmp_path: Path, line: str, at: str) -> None:
    [row] = of_log(tmp_path, line).versions()
    assert (row["author_id"], row["text"], row["kind"]) == ("maya", "hi", "message")
    assert row["sent_at"].isoformat().startswith(at)
    assert (row["channel_id"], row["channel_kind"]) == ("#harbor", "channel")


def test_actions_joins_and_addressed_people_are_understood(tmp_path: Path) -> None:
    log = """--- Log opened Tue Nov 03 09:00:00 2026
09:10 -!- joe [j@host] has joined #harbor
09:11 <joe> hello
09:12  * maya waves
09:13 <maya> joe: welcome
09:14 -ChanServ- read the topic
--- Log closed Tue Nov 03 10:00:00 2026
"""
    rows = of_log(tmp_path, log).versions()
    assert [(r["kind"], r["author_id"], r["text"]) for r in rows] == [
        ("system", "", "joe [j@host] has joined #harbor"),
        ("message", "joe", "hello"),
        ("message", "maya", "* waves"),
        ("message", "maya", "joe: welcome"),
        ("message", "ChanServ", "read the topic"),
    ]
    assert rows[3]["mentions"] == ["joe"]


def test_the_day_changes_by_its_line_or_by_midnight(tmp_path: Path) -> None:
    log = """--- Day changed Tue Nov 03 2026
23:59 <a> x
00:01 <a> y
--- Day changed Thu Nov 05 2026
00:00 <a> z
"""
    days = [row["sent_at"].day for row in of_log(tmp_path, log).versions()]
    assert days == [3, 4, 5]


def test_a_files_name_may_tell_the_date_and_its_folder_the_channel(tmp_path: Path) -> None:
    """ZNC writes one file per day into a folder per channel."""
    (tmp_path / "logs" / "#a").mkdir(parents=True)
    (tmp_path / "logs" / "#b").mkdir()
    for channel in "ab":
        path = tmp_path / "logs" / f"#{channel}" / "2026-11-03.log"
        path.write_text("[09:12:44] <maya> hi\n[09:12:50] *** Joins: joe (j@host)\n")
    reading = read(tmp_path / "logs")
    assert sorted(reading.channels) == ["#a", "#b"]
    assert len(reading.versions()) == 4


def test_a_longer_log_later_lands_only_its_new_lines(tmp_path: Path) -> None:
    """Ids come from what the line says; of several alike in a minute, from their number."""
    stores = stores_with_account(tmp_path / "home", "text_log")
    path = tmp_path / "#harbor.log"
    old = "[2026-11-03 09:12] <a> ok\n[2026-11-03 09:12] <a> ok\n[2026-11-03 09:12] <b> ok\n"
    path.write_text(old)
    assert imported(stores, path).kept == 3
    path.write_text(old + "[2026-11-03 09:12] <a> ok\n")
    counts = imported(stores, path)
    assert (counts.kept, counts.updated, counts.skipped) == (1, 0, 3)


def test_a_message_of_several_lines_is_one(tmp_path: Path) -> None:
    """Its id is that of its first line: a log that ended in its middle goes on with it."""
    short = of_log(tmp_path, "[2026-11-03 09:12] <a> one\n")
    long = of_log(tmp_path, "[2026-11-03 09:12] <a> one\n  two\n")
    assert [row["text"] for row in long.versions()] == ["one\n  two"]
    assert short.envelopes[0].message_id == long.envelopes[0].message_id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("09:12 <a> hi", "no date"),
        ("nothing at all", "no time"),
        ("[2026-13-03 09:12:44] <a> hi", "month"),
        ("[2026-11-03 25:12:44] <a> hi", "hour"),
        ("[2026-11-03 09:12:44] ???", "nothing that we know"),
        ("[1969-11-03 09:12:44] <a> hi", "1970 and 2200"),
    ],
)
def test_a_line_that_is_none_is_a_dead_letter(tmp_path: Path, line: str, reason: str) -> None:
    reading = of_log(tmp_path, f"{line}\n[2026-11-03 09:13:00] <a> fine\n")
    assert [row["text"] for row in reading.versions()] == ["fine"]
    [letter] = reading.letters
    assert reason in letter.reason
    assert letter.source == "#harbor.log, line 1"


def test_a_text_that_is_no_log_says_so_without_a_flood_of_letters(tmp_path: Path) -> None:
    reading = of_log(tmp_path, "just words\n" * 5_000, "notes.txt")
    assert len(reading.letters) == 101
    assert "no line looks like" in reading.broken[0]


def test_old_encodings_are_read_and_utf16_and_binaries_are_not(tmp_path: Path) -> None:
    log = "[2026-11-03 09:12] <a> grüße"
    assert of_log(tmp_path, log.encode("latin-1")).versions()[0]["text"] == "grüße"
    assert of_log(tmp_path, ("\ufeff" + log).encode()).versions()[0]["text"] == "grüße"
    assert "UTF-16" in of_log(tmp_path, log.encode("utf-16")).broken[0]
    assert "not a text" in of_log(tmp_path, b"\x7fELF\0\0\0").broken[0]
