"""One message to one address, in a process of its own: `python -m …notifying.one_message`.

Belongs here: the child's side: what it may reach, and the words of a failure. Does not belong here:
starting it (`sending.py`).

Reads JSON from standard input (`url`, `title`, `text`, `private`), writes why it failed (empty: it
did not) to standard output. An audit hook sees every connection right before it is made, with the
address that the name has come to: no redirect, no second answer of a name server and no plugin gets
round it. It cannot be taken off, so it lives in this process and nowhere else.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson

from communicator_pipeline.notifying.addresses import NotAnAddress, is_private, opened

PRIVATE = "it is on this machine or in a private network, where this installation sends nothing"

_STARTS_SOMETHING = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pty.",
)

_READABLE = tuple(
    str(Path(place).resolve()) + "/"
    for place in (
        sys.prefix, sys.base_prefix, "/etc/ssl", "/etc/pki", "/usr/lib", "/usr/share/zoneinfo",
        "/usr/share/ca-certificates",
    )
)  # fmt: skip
_READABLE_FILES = frozenset(("/etc/hosts", "/etc/resolv.conf", "/etc/mime.types", "/dev/null"))
_CODE = str(Path(__file__).resolve().parents[1]) + "/"


class Kept:
    """Keeps this process from what a message does not need."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.refused = ""

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto") and not self.private:
            self._judge(args[1])
        elif event == "open" and not _may_read(*args):
            self._refuse("it wants a file of this machine")
        elif event.startswith(_STARTS_SOMETHING):
            self._refuse("it wants to start a program on this machine")

    def _judge(self, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) and address else None
        try:
            is_here = host is None or is_private(str(host))
        except ValueError:
            is_here = True  # a name that is not looked up yet, or a socket of this machine
        if is_here:
            self._refuse(PRIVATE)

    def _refuse(self, why: str) -> None:
        self.refused = why
        raise PermissionError(why)


def _may_read(path: object, mode: object, flags: object) -> bool:
    if isinstance(path, int):
        return True  # what is open already
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    if mode is not None and set(str(mode)) & set("wax+"):
        return False
    name = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
    real = str(Path(name).absolute())
    return ".." not in real.split("/") and (
        real in _READABLE_FILES or real.startswith(_READABLE) or real.startswith(_CODE)
    )


class _Heard(logging.Handler):
    """What Apprise says of a failure: the status only, for the rest may quote the address."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.statuses: list[int] = []
        self.had_no_answer = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.statuses += [int(code) for code in re.findall(r"error=(\d{3})\b", text)]
        self.had_no_answer |= "onnection error" in text or "Socket Exception" in text


def words_of(heard: _Heard) -> str:
    """Why a message was not taken, without a word of the service's own."""
    if heard.statuses:
        status = heard.statuses[-1]
        known = {one.value: one.phrase for one in HTTPStatus}
        return f"the service answered {status} {known.get(status, '')}".strip()
    if heard.had_no_answer:
        return "the service could not be reached"
    return "the service did not take it"


def send(url: str, title: str, text: str, private: bool) -> str:
    """Send; returns why it failed, empty if it did not."""
    from apprise import NotifyFormat, NotifyType

    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = [heard]
    logger.disabled = False
    try:
        target = opened(url)
    except NotAnAddress as error:
        return str(error)
    kept = Kept(private)
    sys.addaudithook(kept)
    try:
        done = target.notify(
            body=text, title=title, notify_type=NotifyType.INFO, body_format=NotifyFormat.TEXT
        )
    except Exception:
        done = False
    if done:
        return ""
    return kept.refused or words_of(heard)


if __name__ == "__main__":
    asked = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.write(send(asked["url"], asked["title"], asked["text"], asked["private"]))
