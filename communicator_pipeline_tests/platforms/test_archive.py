"""Opening what strangers have packed."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from communicator_pipeline.platforms.archive import (
    Archive,
    BrokenFile,
    read_events,
    read_items,
)
from communicator_pipeline_tests.platforms.reading import write_zip


def test_entries_that_lead_out_of_the_archive_are_refused(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "e.zip", {"ok.json": "[]", "../up": "x", "/root": "x", "a/../../b": "x"}
    )
    archive = Archive(path)
    assert archive.names == ["ok.json"]
    assert {name for name, _ in archive.refused} == {"../up", "/root", "a/../../b"}


def test_symbolic_links_are_refused_in_a_zip_and_in_a_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as packed:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("ok.json", "[]")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ok.json").write_text("[]")
    os.symlink("/etc", tmp_path / "folder" / "link")
    for path in (tmp_path / "e.zip", tmp_path / "folder"):
        archive = Archive(path)
        assert archive.names == ["ok.json"]
        assert archive.refused[0][0] == "link"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", {"a.json": b"0" * 50_000_000})
    with pytest.raises(BrokenFile, match="bomb"):
        Archive(path)
    noise = os.urandom(600_000)
    archive = Archive(write_zip(tmp_path / "f.zip", {"a.json": b"0" * 50_000_000, "b": noise}))
    assert archive.names == ["b"]
    assert "bomb" in archive.refused[0][1]


def test_what_is_not_a_zip_and_what_is_not_there_say_so(tmp_path: Path) -> None:
    (tmp_path / "e.zip").write_bytes(b"<html>Sign in to download</html>")
    with pytest.raises(BrokenFile, match="not a ZIP"):
        Archive(tmp_path / "e.zip")
    with pytest.raises(BrokenFile, match="does not exist"):
        Archive(tmp_path / "missing.zip")


def test_an_encrypted_entry_says_what_to_do(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "e.zip", {"a.json": "[]"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(BrokenFile, match="encrypted"):
        list(read_items(Archive(path), "a.json"))


@pytest.mark.parametrize("size", [20, 70_000])
def test_a_fault_loses_nothing_that_stood_before_it(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["x" * size] * 5)[:-1] + ", }")
    items = read_items(Archive(path), "a.json")
    assert len([next(items) for _ in range(5)]) == 5
    with pytest.raises(BrokenFile, match="breaks off"):
        next(items)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"[", b'[{"a":', b"\xef\xbb\xbf", b"x = "]))
def test_no_bytes_raise_anything_but_broken_file(tail: bytes, head: bytes) -> None:
    archive = Archive(Path(__file__))
    archive.open = lambda name: io.BytesIO(head + tail)  # type: ignore[method-assign]
    for reading in (read_items(archive, archive.names[0]), read_events(archive, archive.names[0])):
        try:
            for _ in reading:
                pass
        except BrokenFile:
            pass


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_zip_with_any_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("users.json", json.dumps([{"id": "U1"}] * 40))
    raw = bytearray(packed.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"changed-{os.getpid()}.zip"
    path.write_bytes(raw)
    try:
        opened = Archive(path)
        for name in opened.names:
            list(read_items(opened, name))
    except BrokenFile:
        pass
    finally:
        path.unlink()


def test_a_zip_whose_entry_has_a_garbled_name_is_refused_with_words(tmp_path: Path) -> None:
    """The entry's own header says UTF-8 and holds something else: zipfile raises a decode error."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("users.json", "[]")
    raw = bytearray(packed.getvalue())
    raw[7] |= 0x08  # bit 11 of the flags: the name is UTF-8
    raw[30] = 0x80  # the first byte of the name
    path = tmp_path / "garbled.zip"
    path.write_bytes(raw)
    with pytest.raises(BrokenFile, match=r"users\.json"):
        Archive(path).read("users.json")
