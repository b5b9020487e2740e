"""Which language a conversation is in: character n-grams and the commonest words, by vote.

Belongs here: identifying a language. Does not belong here: the words (`lexicon/`) and how the
n-gram table was made (`train_language.py`).

Every word votes for each language of its script with 0 (impossible) to `MOST_VOTES` points. A
sum of bounded votes, not of likelihoods, so that one odd name cannot outvote a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from communicator_pipeline.analysis.lexicon import LEXICONS
from communicator_pipeline.analysis.tokens import LARGEST_MEMO

MOST_VOTES = 4.0
FUNCTION_WORD_VOTES = 3.0
LEXICON_WORD_VOTES = 1.5  # a word of any phrase of a lexicon
HAN_VOTES = 2.2  # a Chinese word is about 1.6 characters long
KNOWN_LANGUAGE_VOTES = 0.6  # once: a language with a lexicon wins a near tie
UNDETERMINED = "und"

_TABLE = Path(__file__).with_name("language_ngrams.npz")

_SCRIPTS = (  # first and last code point, languages written with it that have no n-grams here
    (0x0370, 0x03FF, ("el",)),
    (0x0590, 0x05FF, ("he",)),
    (0x0E00, 0x0E7F, ("th",)),
    (0x0900, 0x097F, ("hi",)),
    (0x3040, 0x30FF, ("ja",)),
    (0x3400, 0x9FFF, ("zh", "ja")),
    (0xAC00, 0xD7AF, ("ko",)),
    (0x1100, 0x11FF, ("ko",)),
    (0x0530, 0x058F, ("hy",)),
    (0x10A0, 0x10FF, ("ka",)),
)

Votes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NgramTable:
    """`points[i, j]` is how much n-gram i speaks for language j, in 1/16 nat, ≤ 0."""

    languages: tuple[str, ...]
    ngrams: dict[str, int]
    points: npt.NDArray[np.int8]  # (n-grams, languages)
    unseen: int


@cache
def ngram_table() -> NgramTable:
    """The shipped table; read once."""
    with np.load(_TABLE, allow_pickle=False) as stored:
        ngrams = bytes(stored["ngrams"]).decode("utf-8").split("\n")
        return NgramTable(
            tuple(bytes(stored["languages"]).decode("ascii").split()),
            {ngram: i for i, ngram in enumerate(ngrams)},
            stored["points"],
            int(stored["unseen"]),
        )


def ngrams_of(word: str) -> list[str]:
    """The character trigrams of a word with its edges, bigrams too for one of ≤ 3 letters."""
    edged = f" {word} "
    found = [edged[i : i + 3] for i in range(len(edged) - 2)]
    if len(word) <= 3:
        found += [edged[i : i + 2] for i in range(len(edged) - 1)]
    return found


def is_cyrillic(letter: str) -> bool:
    return "\u0400" <= letter <= "\u052f"


def is_latin(letter: str) -> bool:
    return letter.isalpha() and (letter < "\u0250" or "\u1e00" <= letter <= "\u1eff")


_LETTERS = (  # letters, languages that do not have them
    (frozenset("іїєґ"), ("ru", "bg")),
    (frozenset("ыэё"), ("uk", "bg")),
    (frozenset("ъ"), ("uk",)),
)

CYRILLIC_LANGUAGES = ("ru", "uk", "bg")
ARABIC_LANGUAGES = ("ar", "fa")


class LanguageModel:
    """Identifies languages; remembers the votes of every word it has seen."""

    def __init__(self) -> None:
        self._table = ngram_table()
        scripts = {name for _, _, names in _SCRIPTS for name in names}
        self.languages = self._table.languages + tuple(sorted(scripts))
        self._column = {name: i for i, name in enumerate(self.languages)}
        self._function_words, self._lexicon_words = _columns_of_lexicons(self.languages)
        latin = set(self._table.languages) - {*CYRILLIC_LANGUAGES, *ARABIC_LANGUAGES}
        self._groups = {
            "latin": self._columns(latin),
            "cyrillic": self._columns(CYRILLIC_LANGUAGES),
            "arabic": self._columns(ARABIC_LANGUAGES),
        }
        self._prior = np.zeros(len(self.languages), np.float32)
        self._prior[self._columns(LEXICONS)] = KNOWN_LANGUAGE_VOTES
        self._prior[self._column["en"]] += 0.2
        self._forget()

    def _columns(self, names: Container[str]) -> npt.NDArray[np.intp]:
        return np.array([i for name, i in self._column.items() if name in names], np.intp)

    def _forget(self) -> None:
        self._rows: dict[str, int] = {}
        self._votes: Votes = np.zeros((1024, len(self.languages)), np.float32)

    def _row(self, word: str) -> int:
        """The row of `_votes` that holds a word's votes; row 0 says nothing."""
        if not self._rows:
            self._rows[""] = 0
        row = self._rows.get(word)
        if row is None:
            votes = self._votes_of(word)
            row = len(self._rows) if votes is not None else 0
            self._rows[word] = row
            if votes is not None:
                if row >= len(self._votes):
                    grown = np.zeros((2 * len(self._votes), len(self.languages)), np.float32)
                    grown[: len(self._votes)] = self._votes
                    self._votes = grown
                self._votes[row] = votes
        return row

    def _votes_of(self, word: str) -> Votes | None:
        letter = word[0]
        if not letter.isalpha():
            return None
        votes = np.zeros(len(self.languages), np.float32)
        word = word.lower()
        if is_latin(letter):
            self._vote_by_ngrams(word, self._groups["latin"], votes)
        elif is_cyrillic(letter):
            self._vote_by_ngrams(word, self._groups["cyrillic"], votes)
        elif "\u0600" <= letter <= "\u06ff":
            self._vote_by_ngrams(word, self._groups["arabic"], votes)
        else:
            for first, last, names in _SCRIPTS:
                if first <= ord(letter) <= last:
                    for name in names:
                        votes[self._column[name]] = (
                            2 * MOST_VOTES
                            if first != 0x3400
                            else (HAN_VOTES if name == "zh" else 0.7 * HAN_VOTES)
                        )
        return votes

    def _vote_by_ngrams(self, word: str, columns: npt.NDArray[np.intp], votes: Votes) -> None:
        table = self._table
        known = [table.ngrams[n] for n in ngrams_of(word[:24]) if n in table.ngrams]
        missing = len(ngrams_of(word[:24])) - len(known)
        points = table.points[known].sum(axis=0, dtype=np.int32) + missing * table.unseen
        likelihood = points[columns].astype(np.float32) / 16
        likelihood = 0.7 * (likelihood - likelihood.max())
        votes[columns] = np.maximum(likelihood + MOST_VOTES, 0.0)
        for letters, excluded in _LETTERS:
            if not letters.isdisjoint(word):
                votes[[self._column[name] for name in excluded]] = 0.0
        for column in self._lexicon_words.get(word, ()):
            votes[column] += LEXICON_WORD_VOTES
        for column in self._function_words.get(word, ()):
            votes[column] += FUNCTION_WORD_VOTES

    def identify(self, words: Sequence[str]) -> tuple[str, float]:
        """Language and confidence 0..1 of raw tokens (not folded: accents tell)."""
        if len(self._rows) > LARGEST_MEMO:
            self._forget()
        rows = [self._rows.get(w) for w in words]
        if None in rows:
            rows = [self._row(w) for w in words]
        said = [r for r in rows if r]
        if not said:
            return UNDETERMINED, 0.0
        totals = self._votes[said].sum(axis=0) + self._prior
        best = int(totals.argmax())
        top = float(totals[best])
        totals[best] = -1.0
        lead = top - float(totals.max())
        if len(said) == 1 and lead < 0.5:
            return UNDETERMINED, 0.0
        return self.languages[best], 1.0 - math.exp(-lead / 2.5)


@cache
def _columns_of_lexicons(
    languages: tuple[str, ...],
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The columns of every function word, and of every word in a lexicon."""
    column = {name: i for i, name in enumerate(languages)}
    return (
        _columns_of_words({n: lex.function_words.split() for n, lex in LEXICONS.items()}, column),
        _columns_of_words({n: lex.words() for n, lex in LEXICONS.items()}, column),
    )


def _columns_of_words(
    words: Mapping[str, Iterable[str]], column: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for language, listed in words.items():
        for word in dict.fromkeys(listed):
            found.setdefault(word, []).append(column[language])
    return {word: tuple(columns) for word, columns in found.items()}
