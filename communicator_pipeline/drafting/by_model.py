"""The drafter that asks a language model, and falls back to the offline one.

Belongs here: the question, what makes an answer valid, and the draft made of it. Does not belong
here: asking (`language_model/`), the prompt's words (`prompts/draft/`), what a text may not hold
(`checking.py`).

Whom the reply goes to, in which thread and from which account is never asked: the database knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.analysis.by_model import one_line
from communicator_pipeline.drafting.checking import checked
from communicator_pipeline.drafting.draft import Draft
from communicator_pipeline.drafting.learnt import Chosen, described
from communicator_pipeline.drafting.memory import ReplyMemory
from communicator_pipeline.drafting.offline import OfflineDrafter, message_to_answer
from communicator_pipeline.language_model.asking import NoAnswer, Request, Trouble
from communicator_pipeline.language_model.conversations import (
    LONGEST,
    ConversationAsker,
    Shown,
    Told,
)
from communicator_pipeline.language_model.provenance import Provenance
from communicator_pipeline.messages import Transcript, Turn

MOST_EXAMPLES = 3
"""Earlier answers of the owner's that a prompt shows."""

STRANGE_ANSWER = "strange_answer"
"""The flag of a draft in whose place a model gave no answer of use."""

MEMORY = "memory:"
"""In `rests_on`, what is no message but a memory."""


class ProposedReply(BaseModel):
    """What the model is asked for; see `prompts/draft/1/instructions.md` for each part."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["ready", "needs_fill", "no_reply"]
    text: Annotated[str, Field(max_length=8_000)]
    language: Annotated[str, Field(pattern="^([a-z]{2}|und)$")]
    rests_on: Annotated[list[int], Field(max_length=20)]
    used_memories: Annotated[list[str], Field(max_length=10)]
    reason: Annotated[str, Field(max_length=400)]
    confidence: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a new draft, and the one they do not want."""

    instruction: str
    previous: str = ""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft, and how it came to be."""

    draft: Draft
    made: Provenance


@dataclass(frozen=True, slots=True)
class Voice:
    """How the owner wants to sound."""

    tone: str = ""
    signature: str = ""
    languages: tuple[str, ...] = ()


class Drafter:
    """Drafts for conversations of one account, by a model if there is one."""

    def __init__(
        self,
        memory: Callable[[], ReplyMemory],
        voice: Voice | None = None,
        asker: ConversationAsker | None = None,
    ) -> None:
        self._memory = memory
        self._voice = voice or Voice()
        self._asker = asker

    @property
    def longest(self) -> int | None:
        """Messages of a conversation that are read at most; None: as many as offline."""
        return None if self._asker is None else LONGEST

    def fingerprint(self) -> str:
        """What drafts depend on besides their conversations and memories; "" offline and without
        a signature."""
        if self._asker is None:
            return self._voice.signature
        return f"{self._asker.fingerprint()} {self._voice}"

    def draft(
        self,
        items: Sequence[tuple[Transcript, Analysis]],
        learnt: Mapping[str, Sequence[Chosen]] | None = None,
        wish: Wish | None = None,
    ) -> list[Drafted]:
        """A draft for each conversation, in order. `learnt`: conversation id → the memories that
        were chosen for its draft."""
        chosen = learnt or {}
        drafter = OfflineDrafter(self._memory(), signature=self._voice.signature or None)
        by_offline = Provenance(f"{drafter.name} {drafter.version}")
        found = [Drafted(draft, by_offline) for draft in drafter.draft(items, chosen)]
        asker = self._asker
        if asker is None:
            return found
        # Where the offline drafter will not answer (spam, an injection, nobody to answer), no
        # model is asked either: what a stranger wrote must not talk it into an answer.
        worth = [n for n, drafted in enumerate(found) if drafted.draft.outcome != "no_reply"]
        memories = [chosen.get(items[n][0].conversation_id, ()) for n in worth]
        answers = asker.ask(
            [items[n][0] for n in worth],
            lambda place, shown: self._request(
                asker, *items[worth[place]], shown, memories[place], wish
            ),
        )
        for place, (n, answer) in enumerate(zip(worth, answers, strict=True)):
            if isinstance(answer, NoAnswer):
                found[n] = _standing_in(found[n], answer)
            else:
                found[n] = self._drafted(*items[n], memories[place], wish, answer)
        return found

    def _request(
        self,
        asker: ConversationAsker,
        transcript: Transcript,
        analysis: Analysis,
        shown: Shown,
        memories: Sequence[Chosen],
        wish: Wish | None,
    ) -> Request[ProposedReply]:
        asked = message_to_answer(transcript, analysis)
        data = dict(shown.data)
        if asked is not None:
            data["answer_to"] = next(
                (n for n, each in shown.message_ids.items() if each == asked.message_id), None
            )
            data["how_the_owner_answered"] = self._examples(asker, transcript, analysis, asked)
        settings: dict[str, Any] = {
            "tone": self._voice.tone,
            "signature": bool(self._voice.signature),
            "languages": list(self._voice.languages),
            "memories": [
                {"id": each.memory.memory_id, "wanted": described(each.memory.rule)}
                for each in memories
            ],
            "instruction": wish.instruction if wish else "",
            "previous": wish.previous if wish else "",
        }
        ids = frozenset(each.memory.memory_id for each in memories)
        return Request(
            asker.prompt.prompt(settings, data),
            ProposedReply,
            asker.account,
            asker.user_id,
            "draft",
            partial(_problems, frozenset(shown.message_ids), ids),
        )

    def _examples(
        self, asker: ConversationAsker, transcript: Transcript, analysis: Analysis, asked: Turn
    ) -> list[dict[str, str]]:
        """The owner's answers to the likest messages; none that was told to somebody else in
        private, because a model does not know what of it is a secret."""
        matches = self._memory().nearest(
            asked.text,
            analysis.language,
            MOST_EXAMPLES * 2,
            conversation_id=transcript.conversation_id,
            asked_at=asked.sent_at,
            as_of=transcript.as_of,
        )
        open_ones = [
            match.pair
            for match in matches
            if match.pair.person == asked.author_id or match.pair.channel_kind != "dm"
        ]
        return [
            {"to": asker.seen(pair.inbound), "answered": asker.seen(pair.reply)}
            for pair in open_ones[:MOST_EXAMPLES]
        ]

    def _drafted(
        self,
        transcript: Transcript,
        analysis: Analysis,
        memories: Sequence[Chosen],
        wish: Wish | None,
        told: Told[ProposedReply],
    ) -> Drafted:
        value = told.value
        asked = message_to_answer(transcript, analysis)
        said = [turn.text for turn in transcript.turns]
        # What the owner themselves wrote.
        said += [each.memory.rule.words for each in memories]
        said += [wish.instruction] if wish else []
        people = {name for turn in transcript.turns for name in (turn.author_id, turn.author_name)}
        found = checked(value.text, said, people)
        outcome = value.outcome
        if outcome != "no_reply":
            outcome = "needs_fill" if found.gaps or found.flags else "ready"
        text = "" if outcome == "no_reply" else self._signed(found.text)
        rests_on = [
            *([asked.message_id] if asked else []),
            *(told.message_ids[n] for n in value.rests_on),
            *(f"{MEMORY}{memory_id}" for memory_id in value.used_memories),
        ]
        draft = Draft(
            conversation_id=transcript.conversation_id,
            outcome=outcome,
            text=text,
            language=analysis.language if value.language == "und" else value.language,
            gaps=found.gaps if text else (),
            rests_on=tuple(dict.fromkeys(rests_on)),
            reason=one_line(value.reason),
            flags=tuple(dict.fromkeys([*analysis.flags, *found.flags])),
            confidence=round(value.confidence, 4),
        )
        return Drafted(draft, told.made)

    def _signed(self, text: str) -> str:
        signature = self._voice.signature
        if not signature or not text or text.rstrip().endswith(signature):
            return text
        return f"{text.rstrip()}\n{signature}"


def _problems(numbers: frozenset[int], memories: frozenset[str], value: ProposedReply) -> list[str]:
    found = []
    unknown = sorted(set(value.rests_on) - numbers)
    if unknown:
        found.append(f"there are no messages with the numbers {unknown}")
    strange = sorted(set(value.used_memories) - memories)
    if strange:
        found.append(f"used_memories: there are no such ids: {strange}")
    if value.outcome != "no_reply" and not value.text.strip():
        found.append("text: it is empty, but the outcome is not no_reply")
    return found


def _standing_in(offline: Drafted, failure: NoAnswer) -> Drafted:
    draft = offline.draft
    if failure.trouble in (Trouble.INVALID, Trouble.REFUSED):
        # What was said may have brought the model to it: a person looks before anything goes out.
        draft = replace(draft, flags=(*draft.flags, STRANGE_ANSWER))
    return Drafted(draft, offline.made.standing_in(failure))
