"""Finding the phrases of lexicons and taxonomies in a message: one pass over its tokens.

Belongs here: the search. Does not belong here: the phrases, and what finding one means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from communicator_pipeline.analysis.tokens import BREAKS, LARGEST_MEMO, fold, raw_tokens


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a phrase stands for. `value` is the role's own: a weekday, an offset, a category."""

    role: str
    text: str
    language: str = ""  # "" applies to every language
    value: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """A phrase found in a message, at token positions `start` (included) to `end` (not)."""

    phrase: Phrase
    start: int
    end: int


_Word = tuple[str, bool]  # folded word, whether any ending may follow
_Candidate = tuple[tuple[_Word, ...], bool, Phrase]  # the words after the first, initial, phrase


class PhraseTable:
    """Many phrases, looked up by their first word."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self._exact: dict[str, list[_Candidate]] = {}
        self._stems: dict[str, list[_Candidate]] = {}
        for phrase in phrases:
            self._add(phrase)
        self._stem_lengths = sorted({len(s) for s in self._stems})
        self._memo: dict[str, tuple[_Candidate, ...]] = {}

    def _add(self, phrase: Phrase) -> None:
        initial = phrase.text.startswith("^")
        words: list[_Word] = []
        for part in phrase.text.lstrip("^").split():
            pieces = [fold(t) for t in raw_tokens(part.rstrip("*"))]
            words += [(p, False) for p in pieces[:-1]]
            words += [(p, part.endswith("*")) for p in pieces[-1:]]
        if words:
            (first, stem), *rest = words
            index = self._stems if stem else self._exact
            index.setdefault(first, []).append((tuple(rest), initial, phrase))

    def _candidates(self, token: str) -> tuple[_Candidate, ...]:
        found = list(self._exact.get(token, ()))
        for length in self._stem_lengths:
            if length > len(token):
                break
            found += self._stems.get(token[:length], ())
        if len(self._memo) >= LARGEST_MEMO:
            self._memo.clear()
        self._memo[token] = result = tuple(found)
        return result

    def find(self, tokens: Sequence[str]) -> list[Hit]:
        """Every phrase in the message, in order of position."""
        hits: list[Hit] = []
        memo, length = self._memo, len(tokens)
        for i, token in enumerate(tokens):
            candidates = memo.get(token)
            if candidates is None:
                candidates = self._candidates(token)
            for rest, initial, phrase in candidates:
                if initial and i and tokens[i - 1] not in BREAKS:
                    continue
                end = i + 1 + len(rest)
                if end > length:
                    continue
                for j, (word, stem) in enumerate(rest, i + 1):
                    other = tokens[j]
                    if other != word and not (stem and other.startswith(word)):
                        break
                else:
                    hits.append(Hit(phrase, i, end))
        return hits
