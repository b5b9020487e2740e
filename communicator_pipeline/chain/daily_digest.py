"""`daily_digest`: what came on a day, what matters, what waits; Markdown for a person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from communicator_pipeline.chain import analyses, drafted_replies, raw_messages
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import directory
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import AccountMonth

MOST_LISTED = 10


@dataclass
class Digest:
    account: str
    day: str
    markdown: str
    messages: int = 0
    conversations: int = 0
    waiting: int = 0
    drafts: int = 0
    by_category: Counter[str] = field(default_factory=Counter)


def digest_key(account: str, day: str) -> str:
    """Where the lake keeps the digest."""
    return f"digests/{account}/{day}.md"


def materialise(stores: Stores, account: str, day: str) -> Digest:
    """Write the day's digest; one without messages says so."""
    partition = AccountMonth(account, day[:7])

    def rows(asset: str) -> list[dict[str, object]]:
        manifest = stores.lake.manifest(asset, partition)
        if day not in manifest.days:
            return []
        table = stores.lake.read_day(asset, partition, manifest.days[day])
        return table.to_pylist()

    messages = [row for row in rows(raw_messages.ASSET) if row["latest"]]
    analysed = sorted(
        rows(analyses.ASSET), key=lambda row: (-int(str(row["priority"])), row["conversation_id"])
    )
    drafts = {row["conversation_id"]: row for row in rows(drafted_replies.ASSET)}
    waiting = [row for row in analysed if row["needs_reply"]]
    digest = Digest(account, day, "", len(messages), len(analysed), len(waiting), len(drafts))
    digest.by_category.update(str(row["category"]) for row in analysed)
    names = directory(stores.database, account)
    lines = [f"# {account}, {day}", ""]
    if not messages:
        lines.append("Nothing came.")
    else:
        kinds = ", ".join(f"{n} {name}" for name, n in digest.by_category.most_common())
        lines += [f"{len(messages)} messages in {len(analysed)} conversations: {kinds}.", ""]
        matters = [row for row in analysed if not row["needs_reply"]][:MOST_LISTED]
        for title, listed in (("Waits for you", waiting[:MOST_LISTED]), ("Worth a look", matters)):
            if listed:
                lines += [f"## {title}", ""]
            for row in listed:
                channel = names.get(str(row["channel_id"]), row["channel_id"])
                lines.append(f"- **{row['priority']}** {channel}: {row['summary']}")
                draft = drafts.get(row["conversation_id"])
                if draft is not None and draft["text"]:
                    lines.append(f"  - draft: {draft['text']}")
            if listed:
                lines.append("")
    digest.markdown = "\n".join([*lines, *_troubles(stores, account)])
    stores.lake.objects.put(digest_key(account, day), digest.markdown.encode())
    return digest


def _troubles(stores: Stores, account: str) -> list[str]:
    """What is wrong with the account's connection as the digest is made: what did not come may
    be missing because of it."""
    sick = [health for health in Connections(stores).healths([account]) if health.trouble_kind]
    lines = ["", "## Needs your hand", ""] if sick else []
    for health in sick:
        lines.append(f"- {health.trouble_kind}: {health.trouble}")
        if health.repair:
            lines.append(f"  - `{health.repair}`")
    return lines
