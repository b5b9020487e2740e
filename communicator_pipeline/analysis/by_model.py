"""The analyser that asks a language model, and falls back to the offline one.

Belongs here: the question, what makes an answer valid, and the analysis made of it. Does not
belong here: asking (`language_model/`), the prompt's words (`prompts/analyse/`).

The model never decides what is dangerous: the flags are the offline analyser's, and a
conversation that it flags as spam or as speaking to an assistant gains no priority by what the
model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.analysis.analysis import Analysis
from communicator_pipeline.analysis.offline import OfflineAnalyser
from communicator_pipeline.analysis.taxonomy import Taxonomy
from communicator_pipeline.language_model.asking import NoAnswer, Request
from communicator_pipeline.language_model.conversations import (
    LONGEST,
    ConversationAsker,
    Shown,
    Told,
)
from communicator_pipeline.language_model.provenance import Provenance
from communicator_pipeline.messages import Transcript, Turn

VERSION = "by model 1"
"""Of what is made here of an answer: a change has it made again, which asks and costs nothing."""

ANSWERED = "you had the last word"

_Share = Annotated[float, Field(ge=0, le=1)]
_Words = Annotated[str, Field(max_length=400)]


class ConversationAnalysis(BaseModel):
    """What the model is asked for; see `prompts/analyse/1/instructions.md` for each part."""

    model_config = ConfigDict(extra="forbid")

    language: Annotated[str, Field(pattern="^([a-z]{2}|und)$")]
    category: str
    category_reason: _Words
    priority: Annotated[int, Field(ge=0, le=100)]
    priority_reasons: Annotated[list[_Words], Field(max_length=8)]
    needs_reply: bool
    needs_reply_score: _Share
    needs_reply_reason: _Words
    waiting_for: int | None
    summary: Annotated[str, Field(max_length=1_500)]
    summary_rests_on: Annotated[list[int], Field(max_length=20)]
    sentiment: Annotated[float, Field(ge=-1, le=1)]
    confidence: _Share


@dataclass(frozen=True, slots=True)
class Analysed:
    """An analysis, and how it came to be."""

    analysis: Analysis
    made: Provenance


class Analyser:
    """Analyses conversations of one account, by a model if there is one."""

    def __init__(
        self,
        offline: OfflineAnalyser,
        taxonomy: Taxonomy,
        priority_people: frozenset[str] = frozenset(),
        asker: ConversationAsker | None = None,
    ) -> None:
        self._offline = offline
        self._taxonomy = taxonomy
        self._priority_people = priority_people
        self._asker = asker
        self._offline_name = f"{offline.name} {offline.version}"

    @property
    def longest(self) -> int | None:
        """Messages of a conversation that are read at most; None: as many as offline."""
        return None if self._asker is None else LONGEST

    def fingerprint(self) -> str:
        """Who analyses, and with what: a conversation is analysed anew when it changes."""
        people = ",".join(sorted(self._priority_people))
        by = self._offline_name
        if self._asker is not None:
            # Not what the offline analyser learnt: a model is not asked, and paid, again for that.
            by = f"{VERSION} {self._asker.fingerprint()} {by}"
        elif self._offline.labels_digest:
            by = f"{by} {self._offline.labels_digest}"
        return f"{by} {self._taxonomy.model_dump_json()} {people}"

    def analyse(self, transcripts: Sequence[Transcript]) -> list[Analysed | Exception]:
        """An analysis of each, in order, or why there is none: one cannot spoil the others."""
        found = self._analyse_offline(transcripts)
        asker = self._asker
        if asker is None:
            return found
        worth = [n for n, one in enumerate(found) if not _is_hostile(one)]
        answers = asker.ask(
            [transcripts[n] for n in worth],
            lambda place, shown: self._request(asker, transcripts[worth[place]], shown),
        )
        for n, answer in zip(worth, answers, strict=True):
            offline = found[n]
            if not isinstance(answer, NoAnswer):
                found[n] = _analysed(transcripts[n], offline, answer)
            elif not isinstance(offline, Exception):
                found[n] = replace(offline, made=offline.made.standing_in(answer))
        return found

    def _analyse_offline(self, transcripts: Sequence[Transcript]) -> list[Analysed | Exception]:
        answers: list[Analysed | Exception] = []
        for transcript in transcripts:
            try:
                analysis = self._offline.analyse_one(transcript)
                answers.append(Analysed(analysis, Provenance(self._offline_name)))
            except Exception as error:
                answers.append(error)
        return answers

    def _request(
        self, asker: ConversationAsker, transcript: Transcript, shown: Shown
    ) -> Request[ConversationAnalysis]:
        names = {t.author_name for t in transcript.turns if t.author_id in self._priority_people}
        settings = {
            "categories": [
                {"name": c.name, "description": c.description} for c in self._taxonomy.categories
            ],
            "priority_people": sorted(names),
        }
        return Request(
            asker.prompt.prompt(settings, shown.data),
            ConversationAnalysis,
            asker.account,
            asker.user_id,
            "analyse",
            partial(_problems, frozenset(self._taxonomy.names), frozenset(shown.message_ids)),
        )


def _problems(
    categories: frozenset[str], numbers: frozenset[int], value: ConversationAnalysis
) -> list[str]:
    found = []
    if value.category not in categories:
        found.append(f"category: {value.category!r} is not one of {sorted(categories)}")
    named = {*value.summary_rests_on, *([value.waiting_for] if value.waiting_for else [])}
    unknown = sorted(named - numbers)
    if unknown:
        found.append(f"there are no messages with the numbers {unknown}")
    if value.needs_reply and value.waiting_for is None:
        found.append("waiting_for: name the message that waits, or set needs_reply to false")
    return found


def _is_hostile(found: Analysed | Exception) -> bool:
    """Whether a model need not see it: it speaks to software, or is advertising."""
    return isinstance(found, Analysed) and not {"injection", "spam"}.isdisjoint(
        found.analysis.flags
    )


def _analysed(
    transcript: Transcript,
    offline: Analysed | Exception,
    told: Told[ConversationAnalysis],
) -> Analysed:
    value, ids = told.value, told.message_ids
    # Whoever spoke last waits for nobody: that is seen without a model, which may miss it.
    said = list(transcript.people())
    answered = bool(said) and said[-1].from_me
    needs_reply = value.needs_reply and not answered
    waiting = _waiting(said, ids.get(value.waiting_for or 0)) if needs_reply else None
    analysis = Analysis(
        conversation_id=transcript.conversation_id,
        language=value.language,
        category=value.category,
        category_reason=one_line(value.category_reason),
        priority=value.priority,
        priority_reasons=tuple(one_line(r) for r in value.priority_reasons if r.strip()),
        needs_reply=needs_reply,
        needs_reply_score=round(value.needs_reply_score, 4) if not answered else 0.0,
        needs_reply_reason=ANSWERED if answered else one_line(value.needs_reply_reason),
        waiting_since=waiting.sent_at if waiting else None,
        summary=one_line(value.summary),
        summary_message_ids=tuple(dict.fromkeys(ids[n] for n in value.summary_rests_on)),
        sentiment=round(value.sentiment, 4),
        confidence=round(value.confidence, 4),
        flags=() if isinstance(offline, Exception) else offline.analysis.flags,
    )
    return Analysed(analysis, told.made)


def _waiting(said: Sequence[Turn], named: str | None) -> Turn | None:
    """The message that waits: the one that the model names, if somebody else wrote it; else their
    first one since the owner spoke."""
    for turn in said:
        if turn.message_id == named and not turn.from_me:
            return turn
    since = max((place for place, turn in enumerate(said) if turn.from_me), default=-1) + 1
    return next(iter(said[since:]), None)


def one_line(text: str) -> str:
    """The text without line breaks and NULs, which no database text may hold."""
    return " ".join(text.replace("\0", " ").split())
