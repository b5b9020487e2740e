"""Chats of several accounts over months, made up from a seed: threads, direct messages, edits.

Belongs here: writing them as generic JSONL, and importing them. Does not belong here: what becomes
of them.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, add_user

OWNER = "bench"
PEOPLE = ("u-joe", "u-mia", "u-kim", "u-lea")
SAID = (
    "Can you send me the invoice of the order by Friday?",
    "The delivery to Porto is late again, what do we tell them?",
    "Thanks, that works for me.",
    "I have put the notes of the meeting into the folder.",
    "Kannst du morgen um zehn telefonieren?",
    "The test run failed, the log says disk full.",
    "Who takes the night shift on Sunday?",
    "Fine. Let us do it as we said.",
)


def months(count: int, last: str = "2026-10") -> list[str]:
    """So many months, up to `last`."""
    year, month = map(int, last.split("-"))
    ends = year * 12 + month - 1
    return [f"{n // 12:04d}-{n % 12 + 1:02d}" for n in range(ends - count + 1, ends + 1)]


def fill(
    stores: Stores, folder: Path, accounts: int, spans: int, days: int, seed: int, first: int = 0
) -> list[str]:
    """Import made-up chats into so many new accounts of one user; returns their keys.

    `spans`: months; `days`: on which something is said in each of them; `first`: the number of
    the first account.
    """
    add_user(stores.database, OWNER, "Bench")
    of_owner = Accounts(stores.database, OWNER)
    keys = [f"{OWNER}-chat-{number:02d}" for number in range(first, first + accounts)]
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        of_owner.add(key, "generic", key)
        of_owner.set_me(key, ["u-me"])
        file = folder / f"{key}.jsonl"
        lines = chat(Random(f"{seed} {key}"), months(spans), days)
        file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        import_export(open_export(file), key, stores.database, stores.lake)
    return keys


def chat(random: Random, of_months: list[str], days: int) -> Iterator[dict[str, Any]]:
    """The lines of one account; an edited message comes twice."""
    number = 0
    for month in of_months:
        year, of_year = map(int, month.split("-"))
        last = calendar.monthrange(year, of_year)[1]
        for day in sorted(random.sample(range(1, last + 1), days)):
            moment = datetime(year, of_year, day, 8, tzinfo=UTC)
            root = ""
            for _ in range(random.randint(3, 7)):
                number += 1
                moment += timedelta(minutes=random.randint(1, 90))
                is_direct = random.random() < 0.3
                line: dict[str, Any] = {
                    "id": f"m{number}",
                    "channel": "joe" if is_direct else "team",
                    "channel_kind": "dm" if is_direct else "channel",
                    "sent_at": moment.isoformat(),
                    "author": random.choice(("u-joe", "u-me") if is_direct else PEOPLE),
                    "text": f"{random.choice(SAID)} ({number})",
                }
                if not is_direct and root and random.random() < 0.5:
                    line["thread_id"] = root
                elif not is_direct:
                    root = line["id"]
                yield line
                if random.random() < 0.1:
                    edited = (moment + timedelta(minutes=2)).isoformat()
                    yield {**line, "text": f"{line['text']} (edited)", "edited_at": edited}
