"""The analyser that needs no account: from a transcript to an `Analysis`, deterministically.

Belongs here: the order of the steps. Does not belong here: any of the steps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from communicator_pipeline.analysis.analysis import Analysis, AnalysisError
from communicator_pipeline.analysis.category import Choice, Sorter
from communicator_pipeline.analysis.deadlines import Deadline, deadline_of
from communicator_pipeline.analysis.label_model import LabelModel, Seen, features
from communicator_pipeline.analysis.language import UNDETERMINED, LanguageModel
from communicator_pipeline.analysis.needs_reply import THRESHOLD, ReplyNeed, decide
from communicator_pipeline.analysis.priority import priority_of
from communicator_pipeline.analysis.reading import Reader, Reading
from communicator_pipeline.analysis.sentiment import tone_of
from communicator_pipeline.analysis.summary import summarise
from communicator_pipeline.analysis.suspicion import flags, is_injection
from communicator_pipeline.analysis.taxonomy import DEFAULT_TAXONOMY, Taxonomy
from communicator_pipeline.messages import Transcript

ENOUGH_WORDS = 48
"""Tokens read to identify the language, newest messages first."""

SPAM_AT_LEAST = 2.0
"""Points of the spam category from which a conversation is flagged."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What is known of a conversation before its priority is."""

    transcript: Transcript
    readings: list[Reading]
    injected: list[Reading]
    trusted: list[Reading]
    language: str
    sure: float
    need: ReplyNeed
    choice: Choice
    marks: tuple[str, ...]
    tone: float
    heated: bool


class OfflineAnalyser:
    """Analyses conversations with word lists and two small models."""

    name = "offline"
    version = "2"

    def __init__(
        self,
        taxonomy: Taxonomy = DEFAULT_TAXONOMY,
        priority_people: frozenset[str] = frozenset(),
    ) -> None:
        self._taxonomy = taxonomy
        self._categories = {c.name: c for c in taxonomy.categories}
        self._priority_people = priority_people
        self._reader = Reader(taxonomy)
        self._languages = LanguageModel()
        self._sorter = Sorter(taxonomy)
        self._labels = LabelModel()

    def following(self, labels: LabelModel) -> OfflineAnalyser:
        """The same analyser, but what people's corrections taught has its say. What they taught
        of other categories than there are now has none."""
        fits = labels.names == self._taxonomy.names
        followed = copy.copy(self)
        followed._labels = labels if fits else replace(labels, category={})
        return followed

    @property
    def labels_digest(self) -> str:
        """Of what corrections taught; "" if nothing."""
        return self._labels.digest

    def analyse(self, transcripts: Sequence[Transcript]) -> list[Analysis]:
        """One analysis per transcript, in order. Raises on the first that cannot be read."""
        return [self.analyse_one(t) for t in transcripts]

    def analyse_one(self, transcript: Transcript) -> Analysis:
        """The analysis of one conversation; raises `AnalysisError`, which names it."""
        try:
            return self._analyse(transcript)
        except Exception as cause:
            raise AnalysisError(
                transcript.conversation_id, f"{type(cause).__name__}: {cause}"
            ) from cause

    def seen(self, transcript: Transcript) -> Seen | None:
        """What training needs to know of one conversation; None for what is suspicious, from which
        nothing is learnt and in which nothing that was learnt counts."""
        read = self._read(transcript)
        if _is_suspicious(read.marks):
            return None
        names = self._taxonomy.names
        return Seen(
            features(read.trusted, transcript.channel_kind),
            read.choice.scores,
            names.index(read.choice.name),
            tuple(self._priority(read, name)[0] for name in names),
        )

    def _read(self, transcript: Transcript) -> _Read:
        readings = [
            self._reader.read(turn, place)
            for place, turn in enumerate(transcript.turns)
            if turn.kind == "message" and not turn.deleted
        ]
        language, sure = self._language(readings)
        injected = [r for r in readings if is_injection(r)]
        trusted = [r for r in readings if r not in injected] if injected else readings
        need = decide(transcript, trusted, language)
        choice = self._sorter.sort(trusted or readings, transcript.channel_kind, need.needed)
        spam = self._is_spam(choice, readings)
        if spam and need.needed:
            need = ReplyNeed(False, need.score / 4, "looks like spam", None, "")
        marks = flags(readings, injected, spam)
        return _Read(
            transcript, readings, injected, trusted, language, sure, need, choice, marks,
            *tone_of(trusted, language),
        )  # fmt: skip

    def _priority(self, read: _Read, category: str) -> tuple[int, tuple[str, ...]]:
        return priority_of(
            read.transcript,
            read.trusted,
            read.need,
            self._categories.get(category),
            read.tone,
            read.heated,
            _deadline(read.need, read.trusted, read.language),
            self._priority_people,
            read.marks,
        )

    def _analyse(self, transcript: Transcript) -> Analysis:
        read = self._read(transcript)
        need, choice = read.need, read.choice
        learns = bool(self._labels.digest) and not _is_suspicious(read.marks)
        found = features(read.trusted, transcript.channel_kind) if learns else ()
        if learns:
            choice = self._labels.sort(found, choice)
        priority, reasons = self._priority(read, choice.name)
        if learns:
            priority, why = self._labels.rank(found, priority)
            reasons += (why,) if why else ()
        summary, sources = summarise(read.readings, need, read.language, read.injected)
        certain = min(max(read.sure, 0.2), choice.confidence, _certainty(need))
        return Analysis(
            conversation_id=transcript.conversation_id,
            language=read.language,
            category=choice.name,
            category_reason=choice.reason,
            priority=priority,
            priority_reasons=reasons,
            needs_reply=need.needed,
            needs_reply_score=round(need.score, 4),
            needs_reply_reason=need.reason,
            waiting_since=need.waiting_since,
            summary=summary,
            summary_message_ids=sources,
            sentiment=read.tone,
            confidence=round(certain, 4),
            flags=read.marks,
        )

    def _language(self, readings: Sequence[Reading]) -> tuple[str, float]:
        """Of what others wrote, newest first; of the owner's words when that says nothing."""
        for mine in (False, True):
            words: list[str] = []
            for reading in reversed(readings):
                if reading.turn.from_me is mine:
                    words += reading.raw[:ENOUGH_WORDS]
                    if len(words) >= ENOUGH_WORDS:
                        break
            language, sure = self._languages.identify(words)
            if language != UNDETERMINED:
                return language, sure
        return UNDETERMINED, 0.0

    def _is_spam(self, choice: Choice, readings: Sequence[Reading]) -> bool:
        if choice.name != "spam" or any(r.turn.from_me for r in readings):
            return False
        return choice.scores[self._taxonomy.names.index("spam")] >= SPAM_AT_LEAST


def _is_suspicious(marks: Sequence[str]) -> bool:
    """Whether it speaks to software or advertises: no words of it move anything."""
    return "injection" in marks or "spam" in marks


def _deadline(need: ReplyNeed, readings: Sequence[Reading], language: str) -> Deadline | None:
    """The nearest deadline of the open asks; a plain date counts only beside an ask."""
    asking = need.asking or [r for r in readings if not r.turn.from_me]
    found = [d for r in asking if (d := deadline_of(r, language)) and (d.strict or need.needed)]
    return min(found, key=lambda d: (not d.strict, d.at), default=None)


def _certainty(need: ReplyNeed) -> float:
    """0.5 at the threshold, 1 far from it."""
    if need.score >= THRESHOLD:
        return 0.5 + 0.5 * (need.score - THRESHOLD) / (1 - THRESHOLD)
    return 0.5 + 0.5 * (THRESHOLD - need.score) / THRESHOLD
