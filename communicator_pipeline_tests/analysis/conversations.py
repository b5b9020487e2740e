"""Short conversations with what a person would say of them: language, category, reply or none.

Belongs here: turning the lines of `conversations.txt` into transcripts. A line is
`language kind category reply | speaker: text || speaker: text …`; `ana` is the owner.
The second, fourth, … line was looked at while the word lists were written; the others were not,
and are scored apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from communicator_pipeline.messages import Transcript, Turn

START = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)  # a Wednesday
OWNER = "ana"
LINES = Path(__file__).with_name("conversations.txt")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A conversation with its gold labels."""

    transcript: Transcript
    language: str
    category: str
    needs_reply: bool


def transcript(
    *messages: str,
    kind: str = "dm",
    conversation_id: str = "c1",
    start: datetime = START,
    names: tuple[str, ...] = ("Ana", "Ana Novak"),
) -> Transcript:
    """Messages written "speaker: text", five minutes apart; `<@ana>` mentions the owner.

    A speaker whose name ends in "bot" is one. The transcript is as of two hours after the last.
    """
    turns = []
    for place, message in enumerate(messages):
        speaker, _, text = message.partition(": ")
        turns.append(
            Turn(
                message_id=f"{conversation_id}:{place}",
                sent_at=start + timedelta(minutes=5 * place),
                author_id=speaker,
                author_name=speaker.capitalize(),
                from_me=speaker == OWNER,
                text=text,
                is_bot=speaker.endswith("bot"),
                mentions=tuple(who for who in ("ana", "tom", "eva", "li") if f"<@{who}>" in text),
            )
        )
    as_of = turns[-1].sent_at + timedelta(hours=2) if turns else start
    return Transcript(
        conversation_id, "ch", "general", kind, as_of, tuple(turns),
        me=frozenset({OWNER}), my_names=names,
    )  # fmt: skip


def labelled() -> list[Labelled]:
    found = []
    for place, line in enumerate(LINES.read_text("utf-8").splitlines()):
        head, _, said = line.partition(" | ")
        language, kind, category, reply = head.split()
        messages = [m.strip().replace("\\n", "\n") for m in said.split("||")]
        found.append(
            Labelled(
                transcript(*messages, kind=kind, conversation_id=f"c{place}"),
                language,
                category,
                reply == "reply",
            )
        )
    return found
