"""The analyser that asks a language model, and falls back to the offline one.

Belongs here: the question, what makes an answer valid, and the analysis made of it. Does not
belong here: asking (`language_model/`), the prompt's words (`prompts/analyse/`).

The model never decides what is dangerous: the flags are the offline analyser's, and a
conversation that it flags as spam or as speaking to an assistant gains no priority by what the
model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.analysis.analysis import Analysis
from communicator_pipeline.analysis.offline import OfflineAnalyser
from communicator_pipeline.analysis.taxonomy import Taxonomy
from communicator_pipeline.language_model.asking import Answer, NoAnswer, Request, Usage
from communicator_pipeline.language_model.conversations import LONGEST, ConversationReader, Shown
from communicator_pipeline.language_model.model import LanguageModel
from communicator_pipeline.messages import Transcript, Turn
from communicator_pipeline.prompts import PromptVersion

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
    model: str
    prompt: str = ""  # such as "analyse/1"; "" where no model was asked
    stood_in: str = ""  # why the offline analyser did it in a model's place
    passes: bool = False  # whether it is worth trying again later
    withheld: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


class Analyser:
    """Analyses conversations of one account, by a model if there is one."""

    def __init__(
        self,
        offline: OfflineAnalyser,
        taxonomy: Taxonomy,
        priority_people: frozenset[str] = frozenset(),
        model: LanguageModel | None = None,
        prompt: PromptVersion | None = None,
        reader: ConversationReader | None = None,
        account: str = "",
        user_id: str = "",
    ) -> None:
        self._offline = offline
        self._taxonomy = taxonomy
        self._priority_people = priority_people
        self._model = model
        self._prompt = prompt
        self._reader = reader
        self._account = account
        self._user_id = user_id
        self.offline_name = f"{offline.name} {offline.version}"

    @property
    def longest(self) -> int | None:
        """Messages of a conversation that are read at most; None: as many as offline."""
        return None if self._model is None else LONGEST

    def fingerprint(self) -> str:
        """Who analyses, and with what: a conversation is analysed anew when it changes."""
        people = ",".join(sorted(self._priority_people))
        by = self.offline_name
        if self._model is not None and self._prompt is not None and self._reader is not None:
            # Not what the offline analyser learnt: a model is not asked, and paid, again for that.
            shown = self._reader.fingerprint()
            by = f"{VERSION} {self._model.fingerprint} {self._prompt!r} {shown} {by}"
        elif self._offline.labels_digest:
            by = f"{by} {self._offline.labels_digest}"
        return f"{by} {self._taxonomy.model_dump_json()} {people}"

    def analyse(self, transcripts: Sequence[Transcript]) -> list[Analysed | Exception]:
        """An analysis of each, in order, or why there is none: one cannot spoil the others."""
        offline = self._analyse_offline(transcripts)
        if self._model is None or self._prompt is None or self._reader is None:
            return offline
        worth = [n for n, found in enumerate(offline) if not _is_hostile(found)]
        shown = self._reader.read([transcripts[n] for n in worth])
        asked = [
            (n, one, self._request(self._prompt, transcripts[n], one))
            for n, one in zip(worth, shown, strict=True)
            if isinstance(one, Shown)
        ]
        found = list(offline)
        for n, one in zip(worth, shown, strict=True):
            if isinstance(one, NoAnswer):
                found[n] = _stood_in(offline[n], one)
        answers = self._model.complete_all([request for _, _, request in asked])
        for (n, one, request), answer in zip(asked, answers, strict=True):
            if isinstance(answer, NoAnswer):
                answer.usage += one.usage
                found[n] = _stood_in(offline[n], answer)
            else:
                found[n] = _analysed(transcripts[n], offline[n], one, answer, request.prompt.name)
        return found

    def _analyse_offline(self, transcripts: Sequence[Transcript]) -> list[Analysed | Exception]:
        answers: list[Analysed | Exception] = []
        for transcript in transcripts:
            try:
                answers.append(Analysed(self._offline.analyse_one(transcript), self.offline_name))
            except Exception as error:
                answers.append(error)
        return answers

    def _request(
        self, version: PromptVersion, transcript: Transcript, shown: Shown
    ) -> Request[ConversationAnalysis]:
        names = {t.author_name for t in transcript.turns if t.author_id in self._priority_people}
        settings = {
            "categories": [
                {"name": c.name, "description": c.description} for c in self._taxonomy.categories
            ],
            "priority_people": sorted(names),
        }
        return Request(
            version.prompt(settings, shown.data),
            ConversationAnalysis,
            self._account,
            self._user_id,
            "analyse",
            partial(_problems, frozenset(self._taxonomy.names), frozenset(shown.message_ids)),
            partial(self._shorter, version, transcript, shown),
        )

    def _shorter(
        self, version: PromptVersion, transcript: Transcript, shown: Shown
    ) -> Request[ConversationAnalysis] | None:
        half = shown.half()
        return None if half is None else self._request(version, transcript, half)


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


def _stood_in(offline: Analysed | Exception, failure: NoAnswer) -> Analysed | Exception:
    if isinstance(offline, Exception):
        return offline
    return replace(
        offline, stood_in=str(failure), passes=failure.trouble.passes, usage=failure.usage
    )


def _analysed(
    transcript: Transcript,
    offline: Analysed | Exception,
    shown: Shown,
    answer: Answer[ConversationAnalysis],
    prompt: str,
) -> Analysed:
    value = answer.value
    ids = shown.message_ids
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
    return Analysed(
        analysis,
        answer.model,
        prompt,
        withheld=shown.withheld,
        usage=shown.usage + answer.usage,
    )


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


def columns(analysed: Analysed) -> dict[str, Any]:
    """How the analysis came to be, as the lake keeps it."""
    usage = analysed.usage
    return {
        "model": analysed.model,
        "prompt": analysed.prompt,
        "stood_in": analysed.stood_in,
        "withheld": list(analysed.withheld),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
