"""What the owner answered before, found again by likeness of the question.

Belongs here: pairs of a message and the owner's answer, and the search among them. Does not
belong here: whether an answer may be reused, and in which words (`facts.py`, `offline.py`).

Likeness is the cosine of character n-grams weighted by rarity: it needs no word boundaries, so
that Chinese works like German compounds. An inverted index by n-gram keeps a search well below
a millisecond: only the pairs that share a rare n-gram with the question are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import numpy as np
import numpy.typing as npt

from communicator_pipeline.analysis.language import LanguageModel
from communicator_pipeline.analysis.lexicon import LEXICONS
from communicator_pipeline.analysis.suspicion import addresses_an_assistant, holds_a_secret
from communicator_pipeline.analysis.tokens import (
    CODE,
    LINK,
    MENTION,
    fold,
    prose,
    raw_tokens,
    tokens,
)
from communicator_pipeline.messages import Transcript, Turn

BUCKETS = 1 << 16
LONGEST_INBOUND = 400
"""Characters compared; the ask of a longer message is near its end as often as at its start."""

FEWEST_PAIRS = 500
LEAST_LIKENESS = 0.1
SHORTEST_REPLY = 2  # characters; "ok" is an answer, "k" tells nothing
LONGEST_REPLY = 600  # characters; longer answers are letters, not something to say again


@dataclass(frozen=True, slots=True)
class ReplyPair:
    """A message to the owner and what the owner answered. `sent_at` (UTC) is the answer's."""

    inbound: str
    reply: str
    language: str
    conversation_id: str
    message_id: str  # of the answer
    sent_at: datetime
    person: str  # who was answered: the author's id
    person_name: str = ""
    channel_kind: str = "dm"  # "dm" is the careful default: what was said there stays private


@dataclass(frozen=True, slots=True)
class Match:
    """A pair found again; `likeness` is 0..1."""

    pair: ReplyPair
    likeness: float


_SPACES = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")


def comparable(text: str) -> str:
    """The text as it is compared: words only, any number alike."""
    clean = prose(text)
    for placeholder in (LINK, MENTION, CODE):
        clean = clean.replace(placeholder, " ")
    if len(clean) > LONGEST_INBOUND:
        half = LONGEST_INBOUND // 2
        clean = f"{clean[:half]} {clean[-half:]}"
    return f" {_SPACES.sub(' ', _DIGITS.sub('0', clean.casefold())).strip()} "


Hashes = npt.NDArray[np.int64]


def hashed_ngrams(texts: Sequence[str]) -> tuple[Hashes, Hashes]:
    """Row and bucket of each distinct character n-gram of each text, sorted by row.

    Trigrams and 4-grams; bigrams and trigrams beyond the alphabets, where words are short.
    """
    joined = "\n".join(texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    row = np.cumsum(points == 10) if len(points) else np.zeros(0, np.int64)
    rows, buckets = [], []
    for length in (2, 3, 4):
        if len(points) < length:
            continue
        count = len(points) - length + 1
        hashed = np.full(count, length, np.uint64)
        for offset in range(length):
            hashed = hashed * np.uint64(1_000_003) ^ points[offset : offset + count]
        hashed *= np.uint64(0x9E3779B97F4A7C15)
        inside = row[:count] == row[length - 1 :]
        inside &= points[:count] != 10
        if length == 2:
            inside &= (points[:count] >= 0x2E80) & (points[1:] >= 0x2E80)
        if length == 4:
            inside &= points[:count] < 0x2E80
        rows.append(row[:count][inside])
        buckets.append((hashed >> np.uint64(48)).astype(np.int64)[inside])
    if not rows:
        empty: Hashes = np.zeros(0, np.int64)
        return empty, empty
    keys = np.concatenate(rows) * BUCKETS + np.concatenate(buckets)
    keys.sort()  # and not np.unique: its hashing takes ten times as long
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    return keys // BUCKETS, keys % BUCKETS


class _Index:
    """The pairs of one language by n-gram: postings sorted by bucket."""

    def __init__(self, unordered: Sequence[ReplyPair]) -> None:
        # By name, so that equals are chosen from alike in whatever order they were read.
        pairs = sorted(unordered, key=lambda pair: (pair.conversation_id, pair.message_id))
        self.pairs = pairs
        rows, buckets = hashed_ngrams([comparable(p.inbound) for p in pairs])
        order = np.argsort(buckets, kind="stable")
        self._rows = rows[order].astype(np.int32)
        counts = np.bincount(buckets, minlength=BUCKETS)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        # Some rarity for every n-gram, so that a memory of three pairs compares like a large one.
        rarity = np.log1p((len(pairs) + FEWEST_PAIRS) / (1 + counts))
        self._rarity = rarity.astype(np.float32)
        norms = np.bincount(rows, self._rarity[buckets] ** 2, minlength=len(pairs))
        self._norms = np.sqrt(np.maximum(norms, 1e-9)).astype(np.float32)
        self.sent = np.array([p.sent_at.timestamp() for p in pairs])
        self._common = max(50, len(pairs) // 20)  # n-grams of more pairs only refine, see below

    def likest(self, buckets: Hashes) -> npt.NDArray[np.float32]:
        """The cosine of a question's n-grams with every pair, shape (pairs,)."""
        counts = self._starts[buckets + 1] - self._starts[buckets]
        rarity = self._rarity[buckets]
        norm = float(np.sqrt((rarity**2).sum()))
        # Common n-grams weigh little and have long postings: leaving them out loses little.
        used = (counts > 0) & (counts <= self._common)
        if not used.any():
            used = counts > 0
        starts, lengths = self._starts[buckets[used]], counts[used]
        if not len(lengths) or norm == 0:
            return np.zeros(len(self.pairs), np.float32)
        offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = self._rows[np.repeat(starts, lengths) + offsets]
        sums = np.bincount(rows, np.repeat(rarity[used] ** 2, lengths), minlength=len(self.pairs))
        return (sums / (norm * self._norms)).astype(np.float32)


def content_words(text: str, language: str) -> set[str]:
    """The folded words of a text that say what it is about; Chinese: its characters."""
    common = _common_words(language)
    return {
        word
        for word in tokens(text)
        if word[0].isalpha() and word not in common and (len(word) > 2 or word >= "\u3400")
    }


@cache
def _common_words(language: str) -> frozenset[str]:
    lexicon = LEXICONS.get(language)
    if lexicon is None:
        return frozenset()
    listed = [
        *lexicon.function_words.split(), *lexicon.greetings.split(), *lexicon.thanks.split(),
        *lexicon.asks.split(), *lexicon.question_words.split(), *lexicon.room.split(),
    ]  # fmt: skip
    said = frozenset(t for word in listed for t in tokens(word))
    return said | frozenset("的了我你您是在有就不也都和把吧啊呀这那") if language == "zh" else said


FEWEST_CONTENT_WORDS = 2
"""Of "hi", "why?" and "and now?" nobody knows what they are about."""

SAME_STEM = 5  # letters that two forms of a word share; all of them in a shorter word


def same_subject(new: str, old: str, language: str) -> bool:
    """Whether two messages are about the same thing: most of what either names, both name.

    Likeness alone is not enough: "reset my router" is like "reset my password".
    """
    mine, theirs = content_words(new, language), content_words(old, language)
    if len(mine) < FEWEST_CONTENT_WORDS or not theirs:
        return False
    return _share(mine, theirs) >= 0.6 and _share(theirs, mine) >= 0.5


def _share(words: set[str], others: set[str]) -> float:
    stems = {w[:SAME_STEM] for w in others}
    return sum(w[:SAME_STEM] in stems for w in words) / len(words)


class ReplyMemory:
    """The owner's earlier answers, by language."""

    def __init__(self, pairs: Sequence[ReplyPair]) -> None:
        by_language: dict[str, list[ReplyPair]] = {}
        for pair in pairs:
            by_language.setdefault(pair.language, []).append(pair)
        self._indexes = {name: _Index(found) for name, found in by_language.items()}
        self.names = frozenset(
            name
            for full in {p.person_name for p in pairs}
            for name in (full, *full.split())
            if len(name) > 1
        )
        self.common_words = _written_small_by_several(pairs)
        self._count = len(pairs)

    def __len__(self) -> int:
        return self._count

    @classmethod
    def from_pairs(cls, pairs: Iterable[ReplyPair]) -> ReplyMemory:
        """A memory of these pairs; those that hold secrets or address software are left out."""
        return cls([p for p in pairs if may_be_remembered(p)])

    @classmethod
    def from_transcripts(cls, transcripts: Iterable[Transcript]) -> ReplyMemory:
        """A memory of what the owner answered in these conversations."""
        languages = LanguageModel()
        return cls.from_pairs(p for t in transcripts for p in pairs_of(t, languages))

    def nearest(
        self,
        text: str,
        language: str,
        k: int = 3,
        *,
        conversation_id: str = "",
        asked_at: datetime | None = None,
        as_of: datetime | None = None,
    ) -> list[Match]:
        """The k likest pairs of the language, best first.

        None from `conversation_id` sent at or after `asked_at`, and none sent after `as_of`: a
        draft must not know the answer it is to replace, whenever it is computed.
        """
        index = self._indexes.get(language)
        if index is None or k < 1:
            return []
        likeness = index.likest(hashed_ngrams([comparable(text)])[1])
        found: list[Match] = []
        # Of equally like answers the newest: the owner may have changed their mind.
        likely = np.flatnonzero(likeness > LEAST_LIKENESS)
        order = np.lexsort((-index.sent[likely], -np.round(likeness[likely], 3)))
        for i in likely[order].tolist():
            pair = index.pairs[i]
            if as_of is not None and pair.sent_at > as_of:
                continue
            if pair.conversation_id == conversation_id and (
                asked_at is None or pair.sent_at >= asked_at
            ):
                continue
            found.append(Match(pair, min(1.0, float(likeness[i]))))
            if len(found) == k:
                break
        return found


def _written_small_by_several(pairs: Sequence[ReplyPair]) -> frozenset[str]:
    """Folded words that the messages of at least two people hold in small letters: no names."""
    writer: dict[str, str] = {}
    several: set[str] = set()
    for pair in pairs:
        for word in raw_tokens(prose(pair.inbound)):
            if word.islower() and writer.setdefault(word, pair.person) != pair.person:
                several.add(word)
    return frozenset(fold(w) for w in several)


def may_be_remembered(pair: ReplyPair) -> bool:
    return (
        SHORTEST_REPLY <= len(pair.reply.strip()) <= LONGEST_REPLY
        and not holds_a_secret(pair.reply)
        and not addresses_an_assistant(pair.reply)
        and not addresses_an_assistant(pair.inbound)
    )


def pairs_of(transcript: Transcript, languages: LanguageModel) -> list[ReplyPair]:
    """Each run of others' messages with the owner's next one.

    The message that the owner's reply names is the inbound one; else the one of the run that
    asks. Outside direct messages nobody else's turn is taken for what the owner answers unless
    something says so: a reply, a mention, or a question right before.
    """
    pairs: list[ReplyPair] = []
    run: list[Turn] = []
    by_id = {t.message_id: t for t in transcript.turns}
    for turn in transcript.people():
        if not turn.from_me:
            run.append(turn)
            continue
        inbound = _answered_by(turn, run, by_id.get(turn.reply_to or ""), transcript)
        run = []
        if inbound is None or inbound.is_bot or inbound.deleted or not inbound.text.strip():
            continue
        words = [*raw_tokens(prose(inbound.text)), *raw_tokens(prose(turn.text))]
        pairs.append(
            ReplyPair(
                inbound.text,
                turn.text.strip(),
                languages.identify(words)[0],
                transcript.conversation_id,
                turn.message_id,
                turn.sent_at,
                inbound.author_id,
                inbound.author_name,
                transcript.channel_kind,
            )
        )
    return pairs


def _answered_by(
    mine: Turn, run: Sequence[Turn], named: Turn | None, transcript: Transcript
) -> Turn | None:
    if named is not None and not named.from_me:
        return named
    if transcript.channel_kind == "dm":
        asking = [t for t in run if "?" in t.text or "？" in t.text]
        return (asking or run)[-1] if run else None
    for turn in reversed(run):
        if not transcript.me.isdisjoint(turn.mentions) or turn.author_id in mine.mentions:
            return turn
    last = run[-1] if run else None
    return last if last is not None and last.text.rstrip().endswith(("?", "？")) else None
