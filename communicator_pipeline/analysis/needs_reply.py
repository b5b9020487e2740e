"""Whether a conversation waits for its owner, and since when.

Belongs here: who a message speaks to, whether it asks, whether it has been answered or closed.
Does not belong here: how urgent that is (`priority.py`) and what to answer (`drafting/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from communicator_pipeline.analysis.ask_model import ask_model
from communicator_pipeline.analysis.lexicon import LEXICONS
from communicator_pipeline.analysis.phrases import Hit
from communicator_pipeline.analysis.reading import Reading, first_name, name_pattern
from communicator_pipeline.messages import Transcript, Turn

THRESHOLD = 0.5
ENOUGH_TROUBLE = 1.5
"""A phrase such as "can't log in", or a word and a negation: told to one, it asks for help."""

SMALL_GROUP = 4
"""People in a conversation, the owner included, up to whom "anyone" still means the owner."""

_ADDRESS = {  # how the owner is spoken to → how surely the message is for them
    "in a direct message": 1.0,
    "by mention": 1.0,
    "by name": 0.95,
    "in reply to you": 0.9,
    "right after you spoke": 0.8,
    "in a small group": 0.75,
    "and everybody else in the channel": 0.62,
}
_ROOM = frozenset({"in a small group", "and everybody else in the channel"})
_ROOM_WORD_BONUS = 0.1


@dataclass(frozen=True, slots=True)
class Ask:
    """How surely a message asks for something, 0..1, and the words that show it."""

    score: float
    words: str


@dataclass(frozen=True, slots=True)
class ReplyNeed:
    """The decision about a conversation. `asking` holds the open asks, oldest first."""

    needed: bool
    score: float
    reason: str
    waiting_since: datetime | None
    how: str  # a key of `_ADDRESS`, "" when nothing is open
    asking: tuple[Reading, ...] = ()


def applies(hit: Hit, language: str) -> bool:
    """Whether a phrase counts in a conversation of this language; English ones always do."""
    said_in = hit.phrase.language
    return said_in in ("", language, "en") or language not in LEXICONS


def ask_of(reading: Reading, language: str, with_model: bool = True) -> Ask:
    """How surely one message asks its reader for something.

    The scores are set by hand; the shipped model, trained on English e-mail, finds the requests
    without any request word. A question mark outweighs it: in chat, questions want answers.
    """
    denied = [h for h in reading.hits if h.role == "not_an_ask" and applies(h, language)]
    asks: list[Hit] = []
    openers: list[Hit] = []
    solved = greeting = upset = False
    trouble = 0.0
    for hit in reading.hits:
        role = hit.role
        if not applies(hit, language):
            continue
        if role == "solved":
            solved = True
        elif role == "greetings":
            greeting = True
        elif role in ("negative", "angry"):
            upset = True
        elif role == "trouble":
            trouble += _weight(reading, hit)
        elif role == "negations":
            trouble += 0.5
        elif role in ("asks", "question_words"):
            if any(d.start <= hit.start < d.end for d in denied):
                continue
            (asks if role == "asks" else openers).append(hit)
    if solved and not reading.questions:
        return Ask(0.05, "")
    if reading.questions:
        words = reading.quote((asks or openers)[0]) if asks or openers else "?"
        return Ask(0.95 if asks else 0.9 if openers else 0.8, words)
    if asks:
        return Ask(0.88 if len(asks) > 1 else 0.8, reading.quote(asks[0]))
    if openers:
        return Ask(0.65, reading.quote(openers[0]))
    if denied:
        return Ask(0.05, "")
    score = 0.05
    if with_model and language == "en" and len(reading.tokens) > 3:
        score = max(score, 0.95 * ask_model().probability(reading.tokens) - 0.25)
    if greeting and len(reading.tokens) <= 4:
        return Ask(0.55, "a greeting")
    if (upset or trouble >= ENOUGH_TROUBLE) and score < 0.55:
        return Ask(0.55, "a problem")
    return Ask(score, "wording" if score >= THRESHOLD else "")


def _weight(reading: Reading, hit: Hit) -> float:
    """1 for a word, 2 for a phrase; a Chinese word is one of two or three characters."""
    if "\u3400" <= reading.raw[hit.start][0] <= "\u9fff":
        return 1.0 if hit.end - hit.start < 3 else 1.5
    return min(2.0, float(hit.end - hit.start))


def speaks_to(reading: Reading, before: Turn | None, transcript: Transcript) -> str:
    """How a message reaches the owner: a key of `_ADDRESS`, or "" when it is for others."""
    turn = reading.turn
    if transcript.channel_kind == "dm":
        return "in a direct message"
    if not transcript.me.isdisjoint(turn.mentions):
        return "by mention"
    pattern = name_pattern(transcript.my_names)
    if pattern and pattern.search(reading.clean):
        return "by name"
    authors = {t.message_id: t for t in transcript.turns} if turn.reply_to else {}
    answered = authors.get(turn.reply_to or "")
    if answered is not None and answered.from_me:
        return "in reply to you"
    if turn.mentions or _names_another(reading, transcript):
        return ""
    if answered is not None and answered.author_id != turn.author_id:
        return ""
    if before is not None and before.from_me:
        return "right after you spoke"
    if transcript.channel_kind == "feed":
        return ""
    people = {t.author_id for t in transcript.turns if not t.is_bot and not t.from_me}
    if transcript.channel_kind == "group" or (len(people) < SMALL_GROUP and _i_spoke(transcript)):
        return "in a small group" if len(people) < SMALL_GROUP else _EVERYBODY
    return _EVERYBODY


_EVERYBODY = "and everybody else in the channel"


def _i_spoke(transcript: Transcript) -> bool:
    return any(t.from_me for t in transcript.turns)


def _names_another(reading: Reading, transcript: Transcript) -> bool:
    """Whether the message opens with the name of somebody else in the conversation."""
    opening = reading.clean.lstrip(" @")[:40].casefold()
    for turn in transcript.turns:
        if turn.from_me or turn.author_id == reading.turn.author_id:
            continue
        name = first_name(turn.author_name).casefold()
        if len(name) > 1 and opening.startswith(name):
            after = opening[len(name) : len(name) + 1]
            if not after.isalnum() or "\u3400" <= after <= "\u9fff":
                return True
    return False


def _answers(mine: Turn, asked: Turn, transcript: Transcript) -> bool:
    """Whether a later message of the owner answers this one.

    Elsewhere than in a direct message it does not when it replies to, or mentions, others only.
    """
    if not (mine.text.strip() or mine.attachments):
        return False
    if transcript.channel_kind == "dm":
        return True
    if mine.reply_to and mine.reply_to != asked.message_id:
        target = next((t for t in transcript.turns if t.message_id == mine.reply_to), None)
        return target is None or target.from_me or target.author_id == asked.author_id
    return not mine.mentions or asked.author_id in mine.mentions


def _closed_by(asked: int, readings: Sequence[Reading], asks: Sequence[Ask], language: str) -> str:
    """Why a later message closes the ask at this position, "" when none does.

    "Thanks!" right after one's own request is said in advance: it closes nothing.
    """
    author = readings[asked].turn.author_id
    others_spoke = False
    for later in range(asked + 1, len(readings)):
        reading = readings[later]
        if reading.turn.author_id != author:
            others_spoke = True
        elif asks[later].score >= THRESHOLD:
            continue
        if any(h.role == "solved" and applies(h, language) for h in reading.hits):
            if asks[later].score < THRESHOLD:
                return "it was settled"
        elif (
            others_spoke
            and reading.turn.author_id == author
            and any(h.role in ("thanks", "fine") for h in reading.hits)
        ):
            return "they said thanks"
    return ""


def decide(transcript: Transcript, readings: Sequence[Reading], language: str) -> ReplyNeed:
    """Whether the owner owes an answer. `readings` are those of `transcript.people()`."""
    mine = max((i for i, r in enumerate(readings) if r.turn.from_me), default=-1)
    asks = [  # the model only reads what may still be open: it is the slowest step
        Ask(0.0, "") if r.turn.from_me or r.turn.is_bot else ask_of(r, language, i > mine)
        for i, r in enumerate(readings)
    ]
    best: tuple[float, str, Ask] = (0.0, "", Ask(0.0, ""))
    open_asks: list[Reading] = []
    why_not = "nothing is asked of you"
    for i, (reading, ask) in enumerate(zip(readings, asks, strict=True)):
        if ask.score < 0.3:
            continue
        how = speaks_to(reading, readings[i - 1].turn if i else None, transcript)
        if not how:
            why_not = "it is asked of somebody else"
            continue
        score = ask.score * _ADDRESS[how]
        if how in _ROOM:
            if reading.has("room"):
                score = min(1.0, score + _ROOM_WORD_BONUS)
            if _others_spoke_after(i, readings):
                why_not = "somebody else has answered"
                continue
        if any(
            r.turn.from_me and _answers(r.turn, reading.turn, transcript) for r in readings[i + 1 :]
        ):
            why_not = "you have answered"
            continue
        closed = _closed_by(i, readings, asks, language)
        if closed:
            why_not = closed
            continue
        if score >= THRESHOLD:
            open_asks.append(reading)
        if score > best[0]:
            best = (score, how, ask)
    score, how, ask = best
    if not open_asks:
        return ReplyNeed(False, score, _why_not(transcript, readings, why_not), None, "")
    reason = f"asks you {how}: {ask.words}" if ask.words else f"asks you {how}"
    return ReplyNeed(True, score, reason, open_asks[0].turn.sent_at, how, tuple(open_asks))


def _others_spoke_after(place: int, readings: Sequence[Reading]) -> bool:
    asked = readings[place].turn
    return any(
        r.turn.author_id != asked.author_id and not r.turn.is_bot for r in readings[place + 1 :]
    )


def _why_not(transcript: Transcript, readings: Sequence[Reading], otherwise: str) -> str:
    if not readings:
        return "there is nothing to read"
    if all(r.turn.from_me for r in readings):
        return "only you have written"
    if all(r.turn.is_bot for r in readings if not r.turn.from_me):
        return "written by a bot"
    return otherwise
