"""The drafter that needs no account: what the owner answered before, or an acknowledgement.

Belongs here: choosing between the two and writing the text. Does not belong here: the search
(`memory.py`), the facts (`facts.py`), the sentences of each language (`analysis/lexicon/`).

It never invents: a fact that the new message does not hold becomes a gap, and an
acknowledgement promises no more than to look into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.analysis.lexicon import LEXICONS, Lexicon, phrases
from communicator_pipeline.analysis.phrases import Phrase, PhraseTable
from communicator_pipeline.analysis.reading import first_name
from communicator_pipeline.analysis.suspicion import addresses_an_assistant
from communicator_pipeline.analysis.tokens import HAN, tokens
from communicator_pipeline.drafting.draft import Draft
from communicator_pipeline.drafting.facts import (
    GAP,
    PRIVATE,
    Fact,
    facts_of,
    gap,
    names_in,
    replaced,
    without_overlaps,
)
from communicator_pipeline.drafting.learnt import Chosen, apply, skips
from communicator_pipeline.drafting.memory import Match, ReplyMemory, same_subject
from communicator_pipeline.drafting.parts import called, without_greeting
from communicator_pipeline.messages import Transcript, Turn

LIKE_ENOUGH = 0.5
"""Cosine from which an old answer is reused."""

MOST_GAPS = 3
"""An answer with more gaps than this says less than an acknowledgement."""

ACKNOWLEDGEMENT_CONFIDENCE = 0.4


class OfflineDrafter:
    """Drafts replies with the owner's earlier answers and fixed sentences."""

    name = "offline"
    version = "1"

    def __init__(self, memory: ReplyMemory, signature: str | None = None) -> None:
        self._memory = memory
        self._signature = signature

    def draft(
        self,
        items: Sequence[tuple[Transcript, Analysis]],
        learnt: Mapping[str, Sequence[Chosen]] | None = None,
    ) -> list[Draft]:
        """One draft per conversation, in order. `learnt`: conversation id → the memories chosen
        for its draft."""
        chosen = learnt or {}
        return [
            self.draft_one(transcript, analysis, chosen.get(transcript.conversation_id, ()))
            for transcript, analysis in items
        ]

    def draft_one(
        self, transcript: Transcript, analysis: Analysis, learnt: Sequence[Chosen] = ()
    ) -> Draft:
        refused = _why_none(transcript, analysis)
        if refused:
            return _no_reply(analysis, refused)
        asked = message_to_answer(transcript, analysis)
        if asked is None:
            return _no_reply(analysis, "there is no message to answer")
        draft = self._from_memory(transcript, analysis, asked, learnt) or self._acknowledgement(
            analysis, asked
        )
        return apply(draft, learnt, asked.author_name, self._signature or "")

    def _from_memory(
        self, transcript: Transcript, analysis: Analysis, asked: Turn, learnt: Sequence[Chosen]
    ) -> Draft | None:
        if analysis.language in LEXICONS and wanted(asked.text, analysis.language) == "free":
            return None  # whether the owner has time is not known from another week
        matches = self._memory.nearest(
            asked.text,
            analysis.language,
            3,
            conversation_id=transcript.conversation_id,
            asked_at=asked.sent_at,
            as_of=transcript.as_of,
        )
        for match in matches:
            if match.likeness < LIKE_ENOUGH:
                return None
            if not same_subject(asked.text, match.pair.inbound, analysis.language):
                continue
            if skips(learnt, match.pair.reply, analysis.language):
                continue
            text = adapted(match, asked, transcript, analysis.language, self._memory)
            if text is None:
                continue
            gaps = tuple(dict.fromkeys(GAP.findall(text)))
            if len(gaps) > MOST_GAPS:
                continue
            return Draft(
                conversation_id=transcript.conversation_id,
                outcome="needs_fill" if gaps else "ready",
                text=self._signed(text),
                language=analysis.language,
                gaps=gaps,
                rests_on=(asked.message_id, match.pair.message_id),
                reason=f"you answered a similar message like this ({match.likeness:.0%} alike)",
                flags=analysis.flags,
                confidence=round(match.likeness * (1 - 0.15 * len(gaps)), 3),
            )
        return None

    def _acknowledgement(self, analysis: Analysis, asked: Turn) -> Draft:
        lexicon = LEXICONS.get(analysis.language) or LEXICONS["en"]
        said = lexicon.acknowledge.get(analysis.category) or lexicon.acknowledge[""]
        missing = wanted(asked.text, lexicon.language)
        gaps: tuple[str, ...] = ()
        if missing:
            gaps = (gap(missing, lexicon.language),)
            said = (
                _first_sentence(said)
                + _space(lexicon)
                + lexicon.answer[missing].format(gap=gaps[0])
            )
        text = greeted(said, asked.author_name, lexicon)
        known = analysis.language in LEXICONS
        return Draft(
            conversation_id=analysis.conversation_id,
            outcome="needs_fill" if gaps else "ready",
            text=self._signed(text),
            language=lexicon.language,
            gaps=gaps,
            rests_on=(asked.message_id,),
            reason="no similar message was answered before: an acknowledgement"
            + ("" if known else f", in English for want of {analysis.language}"),
            flags=analysis.flags,
            confidence=ACKNOWLEDGEMENT_CONFIDENCE if known else ACKNOWLEDGEMENT_CONFIDENCE / 2,
        )

    def _signed(self, text: str) -> str:
        if not self._signature or text.rstrip().endswith(self._signature):
            return text
        return f"{text.rstrip()}\n{self._signature}"


def _why_none(transcript: Transcript, analysis: Analysis) -> str:
    if "injection" in analysis.flags:
        return "a message gives instructions to an assistant; they are not followed"
    if "spam" in analysis.flags:
        return "looks like spam"
    if all(t.from_me for t in transcript.people()):
        return "only you have written"
    if not analysis.needs_reply:
        return analysis.needs_reply_reason
    return ""


def _no_reply(analysis: Analysis, reason: str) -> Draft:
    return Draft(
        analysis.conversation_id, "no_reply", "", analysis.language, (), (), reason,
        analysis.flags, 1.0 - analysis.needs_reply_score if not analysis.needs_reply else 0.9,
    )  # fmt: skip


def message_to_answer(transcript: Transcript, analysis: Analysis) -> Turn | None:
    """The message to answer: the first open ask, else the newest of somebody else."""
    theirs = [t for t in transcript.people() if not t.from_me and not t.is_bot]
    for turn in theirs:
        if turn.sent_at == analysis.waiting_since:
            return turn
    return theirs[-1] if theirs else None


def adapted(
    match: Match,
    asked: Turn,
    transcript: Transcript,
    language: str,
    memory: ReplyMemory,
) -> str | None:
    """An old answer for a new message; None when it cannot be reused.

    Facts that the new message does not hold become gaps. What was told to somebody else in a
    direct message may hold no private fact: names become gaps too, and a secret rules it out.
    """
    pair = match.pair
    if addresses_an_assistant(pair.reply):
        return None
    lexicon = LEXICONS.get(language) or LEXICONS["en"]
    body, greeted_somebody = without_greeting(
        without_address(pair.reply, memory.names), language, pair.person_name
    )
    if not tells_something(body, language):
        return None
    said = _said_by_others(transcript)
    carried = carried_over(pair.inbound, asked.text, language)
    to_another = pair.person != asked.author_id
    facts = facts_of(body, language)
    if any(f.kind == "secret" for f in facts):
        return None
    if to_another:
        known = {pair.person_name, *pair.person_name.split()} - {""}
        private = pair.channel_kind == "dm"
        names = names_in(body, language, memory.names | known, memory.common_words)
        facts = without_overlaps([*facts, *(f for f in names if private or f.text in known)])

    def by(fact: Fact) -> str:
        if fact.text in carried:
            return carried[fact.text]
        if holds(said, fact.text):
            return fact.text
        if fact.kind == "name" and fact.text in (pair.person_name, first_name(pair.person_name)):
            return first_name(asked.author_name) or gap("name", language)
        return gap(fact.kind, language)

    text = replaced(body, facts, by).strip()
    if to_another and pair.channel_kind == "dm" and _mostly_gaps(text, facts):
        return None
    return greeted(text, asked.author_name, lexicon) if greeted_somebody else text


def tells_something(reply: str, language: str) -> bool:
    """Whether an answer can be true twice: it informs, and neither reports nor promises.

    "Done", "I've sent it" and "sure, Friday works" were true of one occasion only; an answer
    that asks something in turn belongs to its own conversation.
    """
    if "?" in reply or "？" in reply:
        return False
    words = tokens(reply)
    hits = _once_only(language).find(words)
    if any(h.role == "commits" for h in hits):
        return False
    empty = {i for h in hits for i in range(h.start, h.end)}
    telling = [w for i, w in enumerate(words) if i not in empty and w[0].isalnum()]
    han = sum("\u3400" <= w <= "\u9fff" for w in telling)
    return len(telling) - han / 2 >= 3


def promises(text: str, language: str) -> bool:
    """Whether a text says what the owner did, will do or agrees to: true of one occasion only."""
    return any(hit.role == "commits" for hit in _once_only(language).find(tokens(text)))


@cache
def _once_only(language: str) -> PhraseTable:
    lexicon = LEXICONS.get(language) or LEXICONS["en"]
    return PhraseTable(
        Phrase(role, text)
        for role in ("commits", "fine", "thanks", "greetings")
        for text in phrases(getattr(lexicon, role))
    )


def carried_over(old: str, new: str, language: str) -> dict[str, str]:
    """Facts of the old message → those in their place in the new one: order 1 → order 2.

    Only of kinds that each message has exactly one of, and only what names a thing, not what
    settles one: agreeing to another date or amount is the owner's to do.
    """
    mine, theirs = facts_of(old, language), facts_of(new, language)
    found = {}
    for kind in ("order", "email", "phone", "number"):
        was = {f.text for f in mine if f.kind == kind}
        now = {f.text for f in theirs if f.kind == kind}
        if len(was) == 1 and len(now) == 1:
            found[was.pop()] = now.pop()
    return found


def _mostly_gaps(text: str, facts: Sequence[Fact]) -> bool:
    private = sum(f.kind in PRIVATE for f in facts)
    words = len(GAP.sub("", text).split()) + len(re.findall(f"[{HAN}]", text)) / 2
    return private > 0 and words < 4 * private


def _said_by_others(transcript: Transcript) -> str:
    return "\n".join(t.text for t in transcript.people() if not t.from_me)


def holds(text: str, fact: str) -> bool:
    """Whether the fact stands in the text as a whole, not as a part of a longer one."""
    start = text.casefold().find(fact.casefold())
    while start >= 0:
        before = text[start - 1] if start else " "
        after = text[start + len(fact)] if start + len(fact) < len(text) else " "
        inside = (before.isalnum() and fact[0].isalnum()) or (
            after.isalnum() and fact[-1].isalnum()
        )
        if not inside or re.match(f"[{HAN}]", fact):
            return True
        start = text.casefold().find(fact.casefold(), start + 1)
    return False


_ADDRESS = re.compile(r"\s*@?([^\s:,]{2,40})[:,]\s+|\s*<@[^>]+>[:,]?\s*")


def without_address(text: str, names: frozenset[str]) -> str:
    """The answer without the name or mention of whom it spoke to: "bob: try this"."""
    match = _ADDRESS.match(text)
    if match and (match[1] is None or match[1] in names or match[1].capitalize() in names):
        return text[match.end() :]
    return text


def greeted(text: str, author_name: str, lexicon: Lexicon) -> str:
    """The text after a greeting by first name; without one when the name is no name."""
    name = called(author_name)
    if not name:
        return text[:1].upper() + text[1:]
    return lexicon.hello.format(name=name) + _space(lexicon) + text


def _space(lexicon: Lexicon) -> str:
    return "" if lexicon.language == "zh" else " "


def _first_sentence(text: str) -> str:
    """The thanks of an acknowledgement, without the looking into it."""
    match = re.match(r".*?[.!。！,，](?=\s|$|[一-鿿])", text)
    first = match.group() if match else text
    return re.sub(r"[,，]$", "。" if "，" in first else ".", first)


@cache
def _asked_phrases(language: str) -> PhraseTable:
    lexicon = LEXICONS[language]
    return PhraseTable(
        Phrase(kind, text, language)
        for kind, listing in lexicon.asked.items()
        for text in phrases(listing)
    )


def wanted(text: str, language: str) -> str:
    """What fact a message asks for: "when", "how_much", "where", "who", "free" or ""."""
    found = _asked_phrases(language).find(tokens(text))
    if not found:
        return ""
    kinds = [h.role for h in found]
    return "free" if "free" in kinds else kinds[0]
