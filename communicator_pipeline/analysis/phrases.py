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


@dataclass(slots=True)
class Hit:
    """A phrase found in a message, at token positions `start` (included) to `end` (not).

    Not frozen: a frozen dataclass takes four times as long to make, and there are many.
    """

    role: str
    phrase: Phrase
    start: int
    end: int


_Word = tuple[str, bool]  # folded word, whether any ending may follow


@dataclass(slots=True)
class _Openings:
    """What a first word can open: itself alone, or longer phrases by their second word."""

    alone: list[tuple[Phrase, bool]]  # phrase, whether only at the start of a clause
    longer: dict[str, list[tuple[tuple[_Word, ...], bool, Phrase]]]  # by a whole second word
    stems: list[tuple[tuple[_Word, ...], bool, Phrase]]  # the second word may have any ending


class PhraseTable:
    """Many phrases, looked up by their first word and then by their second."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self._exact: dict[str, list[tuple[list[_Word], bool, Phrase]]] = {}
        self._stems: dict[str, list[tuple[list[_Word], bool, Phrase]]] = {}
        for phrase in phrases:
            self._add(phrase)
        self._stem_lengths = sorted({len(s) for s in self._stems})
        self._memo: dict[str, _Openings | None] = {}

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
            index.setdefault(first, []).append((rest, initial, phrase))

    def _openings(self, token: str) -> _Openings | None:
        found = list(self._exact.get(token, ()))
        for length in self._stem_lengths:
            if length > len(token):
                break
            found += self._stems.get(token[:length], ())
        openings = _Openings([], {}, []) if found else None
        for rest, initial, phrase in found:
            assert openings is not None
            if not rest:
                openings.alone.append((phrase, initial))
            elif rest[0][1]:
                openings.stems.append((tuple(rest), initial, phrase))
            else:
                listed = openings.longer.setdefault(rest[0][0], [])
                listed.append((tuple(rest), initial, phrase))
        if len(self._memo) >= LARGEST_MEMO:
            self._memo.clear()
        self._memo[token] = openings
        return openings

    def find(self, tokens: Sequence[str]) -> list[Hit]:
        """Every phrase in the message, in order of position."""
        hits: list[Hit] = []
        memo, length = self._memo, len(tokens)
        for i, token in enumerate(tokens):
            openings = memo[token] if token in memo else self._openings(token)
            if openings is None:
                continue
            starts_clause = i == 0 or tokens[i - 1] in BREAKS
            for phrase, initial in openings.alone:
                if starts_clause or not initial:
                    hits.append(Hit(phrase.role, phrase, i, i + 1))
            if i + 1 == length:
                continue
            listed = openings.longer.get(tokens[i + 1])
            if openings.stems:
                listed = [*listed, *openings.stems] if listed else openings.stems
            if not listed:
                continue
            for rest, initial, phrase in listed:
                end = i + 1 + len(rest)
                if end > length or (initial and not starts_clause):
                    continue
                for j, (word, stem) in enumerate(rest, i + 1):
                    other = tokens[j]
                    if other != word and not (stem and other.startswith(word)):
                        break
                else:
                    hits.append(Hit(phrase.role, phrase, i, end))
        return hits
