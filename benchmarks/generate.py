"""Writes a Slack export of any size that behaves like a workspace: made up, the same each time.

Sentences come from a chain of word pairs over the demo's texts (seven languages), with rare words
from a long tail; people, times, threads and mentions follow what workspaces do. Nobody has said
which conversation a message belongs to: this is for measuring speed, not understanding.

Belongs here: making the export. Does not belong here: measuring (the other modules).
"""

from __future__ import annotations

import argparse
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from communicator_pipeline.demo.exports import ACCOUNTS
from communicator_pipeline.demo.script import load

LAST_DAY = date(2026, 10, 31)
DAYS = 90
USERS = 200
ACTIVE_PER_CHANNEL = 20
CHANNELS = (
    *((f"C0BENCH{n:04d}", f"team-{n:02d}", "channels.json") for n in range(15)),
    *((f"G0BENCH{n:04d}", f"closed-{n:02d}", "groups.json") for n in range(3)),
    *((f"D0BENCH{n:04d}", f"D0BENCH{n:04d}", "dms.json") for n in range(2)),
)
ME = "U0BENCH0000"
BOT = "B0BENCH0000"

THREADED = 0.14  # of conversations of three and more; that makes 10 to 15 % of the messages
CALLED = 0.2  # of answers to somebody else that begin with a mention
WEEKEND = 0.15  # of a working day's messages
SECONDS_OF_WORK = (7 * 3600, 18 * 3600)  # UTC


class Chatter:
    """Sentences that look like chat: pairs of words as the demo has them, and rare words."""

    def __init__(self, random: Random) -> None:
        self._random = random
        follows: dict[str, list[str]] = defaultdict(list)
        openings: dict[str, list[str]] = defaultdict(list)
        for account in ACCOUNTS:
            for line in load(account).lines:
                words = [w for w in line.text.split() if not w.startswith("<")]
                if not words:
                    continue
                openings[f"{account} {line.conversation}"].append(words[0])
                for word, following in zip(words, [*words[1:], ""], strict=True):
                    follows[word].append(following)
        self._follows = dict(follows)
        self._openings = list(openings.values())
        syllables = "ra to mi ken sol vi dra pe lun est or ka ni bel tur fo ga zen mar lo".split()
        self._rare = [
            "".join(random.choice(syllables) for _ in range(random.randint(2, 4)))
            for _ in range(40_000)
        ]

    def rare_word(self) -> str:
        """By rank as in any language: the n-th word about 1/n as often as the first."""
        return self._rare[int(len(self._rare) ** self._random.random()) - 1]

    def openings(self) -> list[str]:
        """How the sentences of one conversation begin: mostly in one language."""
        return self._random.choice(self._openings)

    def sentence(self, openings: list[str], topic: list[str]) -> str:
        draw = self._random.random
        word = openings[int(draw() * len(openings))]
        words: list[str] = []
        longest = 2 + int(40 * draw() ** 2)
        while word and len(words) < longest:
            words.append(word)
            choices = self._follows[word]
            word = choices[int(draw() * len(choices))]
        if draw() < 0.35:
            words.insert(int(draw() * (len(words) + 1)), topic[int(draw() * len(topic))])
        if draw() < 0.15:
            words.append(self.rare_word())
        if draw() < 0.2 and words[-1][-1].isalnum():
            words[-1] += "?"
        return " ".join(words)


@dataclass(slots=True)
class Plan:
    """A message before its day is written."""

    second: int
    author: str
    text: str
    thread: str | None  # None: not in a thread; "": the root of one


@dataclass
class Place:
    """A channel, its people, and the thread replies that later days have still to bring."""

    channel: str
    folder: str
    people: list[str]
    later: dict[int, list[Plan]] = field(default_factory=lambda: defaultdict(list))
    written: int = 0  # numbers the messages, so that no two have the same ts

    def ts(self, second: int) -> str:
        self.written += 1
        return f"{second}.{self.written % 1_000_000:06d}"


def write_export(path: Path, messages: int, seed: int = 1, days: int = DAYS) -> Counter[str]:
    """Write the export of so many days; returns counts of what it holds. Memory does not grow with
    its size."""
    random = Random(seed)
    chatter = Chatter(random)
    counts: Counter[str] = Counter()
    users = [f"U0BENCH{n:04d}" for n in range(USERS)]
    weights = {name: 1 / (place + 3) for place, (name, _, _) in enumerate(CHANNELS)}
    dates = [LAST_DAY - timedelta(days=days - 1 - n) for n in range(days)]
    busy = {day: (WEEKEND if day.weekday() > 4 else 1) * random.uniform(0.7, 1.3) for day in dates}
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        places = []
        lists: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for channel, name, listed in CHANNELS:
            others = 1 if listed == "dms.json" else ACTIVE_PER_CHANNEL - 1
            people = [ME, *random.sample(users[1:], others)]
            places.append(Place(channel, name, people))
            lists[listed].append({"id": channel, "name": name, "members": people})
        _write(archive, "users.json", [_user(user) for user in users])
        for listed, entries in lists.items():
            _write(archive, listed, entries)
        scale = messages / sum(busy.values()) / sum(weights.values())
        owed = 0.0  # fractions add up, so that the sum is what was asked for
        for number, day in enumerate(dates):
            for place in places:
                owed += scale * busy[day] * weights[place.channel]
                # What earlier days have promised counts, or the export would grow by it.
                plans = place.later.pop(number, [])
                wanted = max(round(owed) - len(plans), 0)
                if number == days - 1 and place is places[-1]:
                    wanted = max(messages - counts["messages"] - len(plans), 0)
                owed -= wanted + len(plans)
                items = list(_day(random, chatter, place, dates, number, wanted, plans, counts))
                if items:
                    _write(archive, f"{place.folder}/{day.isoformat()}.json", items)
    partial.replace(path)
    return counts


def _day(
    random: Random,
    chatter: Chatter,
    place: Place,
    dates: list[date],
    number: int,
    wanted: int,
    plans: list[Plan],
    counts: Counter[str],
) -> Iterator[dict[str, Any]]:
    day = dates[number]
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    roots: dict[int, str] = {}  # id of a root's plan → its ts
    pending: dict[int, list[Plan]] = defaultdict(list)
    for plan in plans:
        plan.second += midnight
    while wanted > 0:
        talk = _conversation(random, chatter, place.people, min(wanted, 60))
        wanted -= len(talk)
        root = talk[0]
        for plan in talk:
            plan.second += midnight
        plans.append(root)
        if root.thread == "":
            pending[id(root)] = talk[1:]
        else:
            plans.extend(talk[1:])
    # Roots get their ts before their answers name it; one thread in ten goes on the next days.
    for plan in [p for p in plans if p.thread == ""]:
        roots[id(plan)] = place.ts(plan.second)
        for answer in pending[id(plan)]:
            answer.thread = roots[id(plan)]
            ahead = number + 1 + int(random.expovariate(1))
            if random.random() < 0.1 and ahead < len(dates):
                answer.second = random.randint(*SECONDS_OF_WORK)
                place.later[ahead].append(answer)
            else:
                plans.append(answer)
    plans.sort(key=lambda plan: plan.second)
    for plan in plans:
        ts = roots.get(id(plan)) or place.ts(plan.second)
        counts["messages"] += 1
        counts["thread replies"] += bool(plan.thread)
        yield _item(random, plan, ts, counts)


def _conversation(random: Random, chatter: Chatter, people: list[str], most: int) -> list[Plan]:
    """A few people, turn after turn, seconds to minutes apart."""
    length = min(1 + int(random.expovariate(1 / 7)), most)
    speakers = random.sample(people, min(len(people), random.choice((2, 2, 2, 3, 3, 4, 5))))
    openings, topic = chatter.openings(), [chatter.rare_word() for _ in range(3)]
    threaded = "" if length > 2 and random.random() < THREADED else None
    second = random.randint(*SECONDS_OF_WORK)
    author = speakers[0]
    plans: list[Plan] = []
    for place in range(length):
        text = chatter.sentence(openings, topic)
        if random.random() < 0.2:
            text += "\n" + chatter.sentence(openings, topic)
        if place and plans[-1].author != author and random.random() < CALLED:
            text = f"<@{plans[-1].author}> {text}"
        plans.append(Plan(second, author, text, threaded if place == 0 else None))
        second = min(second + 2 + int(random.lognormvariate(3.7, 1.3)), 86_399)
        if random.random() < 0.75:
            author = speakers[int(random.random() * len(speakers))]
    return plans


def _item(random: Random, plan: Plan, ts: str, counts: Counter[str]) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "message", "user": plan.author, "text": plan.text, "ts": ts}
    chance = random.random()
    if plan.thread is None and chance < 0.01:
        counts["joins"] += 1
        return item | {
            "subtype": "channel_join",
            "text": f"<@{plan.author}> has joined the channel",
        }
    if plan.thread is None and chance < 0.03:
        counts["bots"] += 1
        del item["user"]
        return item | {"subtype": "bot_message", "bot_id": BOT, "username": "buildbot"}
    item["client_msg_id"] = f"{random.getrandbits(64):016x}"
    if plan.thread is not None:
        item["thread_ts"] = plan.thread or ts
    if chance < 0.43:
        counts["with blocks"] += 1
        said = {"type": "rich_text_section", "elements": [{"type": "text", "text": plan.text}]}
        item["blocks"] = [{"type": "rich_text", "block_id": "b", "elements": [said]}]
    if random.random() < 0.03:
        counts["edited"] += 1
        edited = f"{int(ts[:10]) + random.randint(5, 600)}.000000"
        item["edited"] = {"user": plan.author, "ts": edited}
    if random.random() < 0.08:
        counts["with reactions"] += 1
        item["reactions"] = [{"name": "eyes", "users": [ME], "count": 1}]
    if random.random() < 0.02:
        counts["with files"] += 1
        file = f"F{random.getrandbits(40):010X}"
        item["files"] = [
            {
                "id": file,
                "name": f"sketch-{file[-4:]}.png",
                "mimetype": "image/png",
                "size": random.randint(2_000, 900_000),
                "url_private": f"https://files.example/{file}",
            }
        ]
    return item


def _user(user: str) -> dict[str, Any]:
    number = int(user[-4:])
    names = "Ana Maya Tom Priya Jonas Luis Ines Kofi Elena Sam Oleh Wei Mei Greta Yusuf".split()
    name = f"{names[number % len(names)]} {chr(65 + number // 15)}."
    return {"id": user, "name": f"user{number}", "profile": {"display_name": name}}


def _write(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    entry = zipfile.ZipInfo(name, date_time=(2026, 11, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, orjson.dumps(value), compresslevel=1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.generate", description=__doc__)
    parser.add_argument("path", type=Path, help="the ZIP to write")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=DAYS)
    options = parser.parse_args()
    counts = write_export(options.path, options.messages, options.seed, options.days)
    size = options.path.stat().st_size
    print(
        f"{options.path}: {size / 1e6:.1f} MB, "
        + ", ".join(f"{n:,} {w}" for w, n in counts.items())
    )


if __name__ == "__main__":
    main()
