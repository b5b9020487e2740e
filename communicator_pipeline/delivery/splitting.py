"""A long reply as several messages, by a platform's own limit: pure.

Belongs here: measuring a text in a platform's unit, and where to cut it. Does not belong here: the
limits themselves (each platform's `promise`).

It is cut where a reader would pause: between paragraphs, else lines, sentences, words; inside a
word only if that alone is too long, and never inside what is one sign to a reader. A block of code
stays whole if it fits; one that does not is closed at the end of a part and opened again in the
next. Only the blanks at a cut are lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping

from communicator_pipeline.platforms.protocol import Sending, Unit
from communicator_pipeline.platforms.x.counting import weighted_length

Measure = Callable[[str], int]


def _utf16(text: str) -> int:
    return len(text) + sum(sign > "\uffff" for sign in text)


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


MEASURES: Mapping[Unit, Measure] = {
    "characters": len,
    "utf16": _utf16,
    "bytes": _bytes,
    "x_weighted": weighted_length,
}

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)([^\n]*)$", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*[ \t]+|(?<=[。！？])")
_WORD = re.compile(r"[ \t\u3000]+")
_JOINER = "\u200d"
_HANGUL_TAIL = range(0x1160, 0x1200)


class CannotSplit(ValueError):
    """The limit is too small for even one sign of the text."""


def split(text: str, longest: int, measure: Measure = len) -> list[str]:
    """The parts in order, each of at most `longest` by `measure`, none empty.

    Raises `CannotSplit` if one sign (as a reader counts them) is longer than that.
    """
    parts: list[str] = []
    rest = text.strip()
    while rest:
        if measure(rest) <= longest:
            parts.append(rest)
            break
        part, rest = _cut(rest, longest, measure)
        parts.append(part)
    return parts


def split_for(text: str, promise: Sending | None) -> list[str]:
    """The parts for a platform; one if nobody knows its limit."""
    if promise is None:
        return [text.strip()] if text.strip() else []
    return split(text, promise.longest, MEASURES[promise.unit])


def _cut(text: str, longest: int, measure: Measure) -> tuple[str, str]:
    most = _longest_prefix(text, longest, measure)
    blocks = _blocks(text)
    for boundary in (_PARAGRAPH, _LINE, _SENTENCE, _WORD):
        # A pause near the end of what fits; one near its beginning would make many small parts.
        for least in (most // 2, 1):
            found = _last_boundary(text, boundary, least, most, blocks, measure, longest)
            if found is not None:
                return found
    inside = next((block for block in blocks if block[0] < most < block[1]), None)
    if inside is not None:
        found = _through_block(text, inside, longest, measure)
        if found is not None:
            return found
    place = max((p for p in _sign_ends(text) if p <= most), default=0)
    if place == 0:
        raise CannotSplit(
            f"no sign of the text fits into {longest}: the platform takes too little in one message"
        )
    return text[:place].rstrip(), text[place:].lstrip()


def _last_boundary(
    text: str,
    boundary: re.Pattern[str],
    least: int,
    most: int,
    blocks: list[tuple[int, int, str, str]],
    measure: Measure,
    longest: int,
) -> tuple[str, str] | None:
    """The last cut of this kind that leaves no block of code in two, if there is one."""
    best = None
    for match in boundary.finditer(text, 0, min(len(text), most + 1)):
        if match.start() > most:
            break
        if match.start() < least or any(b[0] < match.start() < b[1] for b in blocks):
            continue
        head, tail = text[: match.start()].rstrip(), text[match.end() :].lstrip("\n")
        # A closing quotation mark belongs to its sentence.
        closing = match.group().rstrip()
        head += closing if boundary is _SENTENCE else ""
        if head and tail.strip() and measure(head) <= longest:
            best = head, tail if boundary in (_PARAGRAPH, _LINE) else tail.lstrip()
    return best


def _through_block(
    text: str, block: tuple[int, int, str, str], longest: int, measure: Measure
) -> tuple[str, str] | None:
    """Cut a block of code between two of its lines: closed here, opened again there."""
    start, end, opening, mark = block
    closing = f"\n{mark}"
    best = None
    for match in _LINE.finditer(text, start + len(opening) + 1, end):
        head = text[: match.start()] + closing
        if measure(head) > longest:
            break
        if match.start() > start + len(opening):
            best = head, f"{opening}\n{text[match.end() :]}"
    # The rest must become shorter, or this would go on for ever.
    return best if best is not None and len(best[1]) < len(text) else None


def _blocks(text: str) -> list[tuple[int, int, str, str]]:
    """(start, end, opening line, mark) of each block of code."""
    found = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match[1].startswith(opened[1]) and not match[2].strip():
            found.append((opened.start(), match.end(), opened.group(), opened[1]))
            opened = None
    if opened is not None:
        found.append((opened.start(), len(text), opened.group(), opened[1]))
    return found


def _longest_prefix(text: str, longest: int, measure: Measure) -> int:
    """How many characters of the text fit, by halving: no measure shrinks when a text grows by
    much, and what is cut is measured once more."""
    low, high = 0, min(len(text), max(1, longest) * 4)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle]) <= longest:
            low = middle
        else:
            high = middle - 1
    return low


def _sign_ends(text: str) -> Iterator[int]:
    """Where one sign, as a reader counts them, ends and the next one begins.

    A short form of Unicode's extended grapheme clusters
    (https://unicode.org/reports/tr29/, read 2026-11): marks, joiners, variation selectors, skin
    tones and tags stay with what they follow, flags are pairs, Hangul syllables stay whole.
    """
    flags = 0
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        is_flag = "\U0001f1e6" <= before <= "\U0001f1ff"
        flags = flags + 1 if is_flag else 0
        if before == "\r" and after == "\n":
            continue
        if after == _JOINER or before == _JOINER or _extends(after):
            continue
        if is_flag and flags % 2 == 1 and "\U0001f1e6" <= after <= "\U0001f1ff":
            continue
        yield place
    yield len(text)


def _extends(sign: str) -> bool:
    return (
        unicodedata.category(sign) in ("Mn", "Mc", "Me")
        or "\ufe00" <= sign <= "\ufe0f"
        or "\U0001f3fb" <= sign <= "\U0001f3ff"
        or "\U000e0020" <= sign <= "\U000e007f"
        or ord(sign) in _HANGUL_TAIL
    )
