"""Sending a message to an address: in a child process, which can be kept from what it must not
reach, and ended when it takes too long.

Belongs here: starting and ending the child. Does not belong here: what the child does
(`one_message.py`), what became of a message (`storage/notifications.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys

import orjson

from communicator_pipeline.notifying.wording import Message

LONGEST = 30.0  # seconds: a mail server may think for a while

_LOST = "it did not answer within half a minute"


def send(url: str, message: Message, private: bool) -> str:
    """Send; returns why it failed in words that hold nothing of the address, empty if it did not.

    `private`: whether private addresses may be reached. The address goes through a pipe: a
    command's words and its environment can be read by others.
    """
    asked = {"url": url, "title": message.title, "text": message.text, "private": private}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "communicator_pipeline.notifying.one_message"],
            input=orjson.dumps(asked),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST,
            check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired:
        return _LOST
    if done.returncode != 0:
        return "the process that sends it broke off"
    return done.stdout.decode(errors="replace")
