"""In which chat a message of the account stands, by its number alone. Pure.

Belongs here: remembering it in few bytes, as cursors. Does not belong here: what it is needed for
(`mtproto_pull.py`).

Private chats and basic groups share one sequence of message ids per account, and Telegram tells of
a deletion there by number only, without the chat (updateDeleteMessages,
https://core.telegram.org/constructor/updateDeleteMessages, read 2026-11). So the chat of every
message that came by is kept, for the newest `MOST_BLOCKS` thousands of numbers. Messages of chats
that are not read are kept too, under "": their deletion is nobody's business, and no mystery.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

PREFIX = "ids:"
BLOCK = 1_000  # numbers in one cursor: some 5 KB at the worst
MOST_BLOCKS = 100  # the newest 100,000 messages: half a megabyte at the worst


class Whereabouts:
    """Message id → the chat's key, for ids that the account counts."""

    def __init__(self, cursors: Mapping[str, str]) -> None:
        self._written = {k: v for k, v in cursors.items() if k.startswith(PREFIX)}
        self._blocks: dict[int, dict[int, str]] = {}  # those that were looked into
        self._changed: set[int] = set()

    def note(self, native: int, key: str) -> None:
        """A message came by; "" is a chat that is not read."""
        number, place = divmod(native, BLOCK)
        block = self._block(number)
        if block.get(place) != key:
            block[place] = key
            self._changed.add(number)

    def find(self, native: int) -> str | None:
        """The chat's key; "" for one that is not read; None if the message is not known."""
        number, place = divmod(native, BLOCK)
        return self._block(number).get(place)

    def moved(self) -> dict[str, str]:
        """The cursors that have changed since the last call; the oldest are forgotten."""
        cursors = {}
        for number in self._changed:
            name = f"{PREFIX}{number}"
            cursors[name] = self._written[name] = _spelled(self._blocks[number])
        self._changed.clear()
        numbers = sorted(int(name.removeprefix(PREFIX)) for name in self._written)
        for number in numbers[:-MOST_BLOCKS]:
            del self._written[f"{PREFIX}{number}"]
            self._blocks.pop(number, None)
            cursors[f"{PREFIX}{number}"] = ""
        return cursors

    def _block(self, number: int) -> dict[int, str]:
        if number not in self._blocks:
            self._blocks[number] = _read(self._written.get(f"{PREFIX}{number}", ""))
        return self._blocks[number]


def _spelled(block: Mapping[int, str]) -> str:
    """`{"user7": "0-4,9"}`: numbers of a chat come in runs."""
    runs: dict[str, list[list[int]]] = {}
    for place in sorted(block):
        of_chat = runs.setdefault(block[place], [])
        if of_chat and of_chat[-1][1] == place - 1:
            of_chat[-1][1] = place
        else:
            of_chat.append([place, place])
    return orjson.dumps(
        {
            key: ",".join(str(a) if a == b else f"{a}-{b}" for a, b in of_chat)
            for key, of_chat in runs.items()
        }
    ).decode()


def _read(text: str) -> dict[int, str]:
    block: dict[int, str] = {}
    for key, runs in (orjson.loads(text) if text else {}).items():
        for run in runs.split(","):
            first, _, last = run.partition("-")
            for place in range(int(first), int(last or first) + 1):
                block[place] = key
    return block
