"""A conversation in at most 75 words, in its own sentences, with who says them.

Belongs here: choosing and quoting sentences. Does not belong here: judging the conversation.

The figure behind it: '"name says" and the first sentence of each message, 75 words at most' is
the best of the simple summaries of e-mail threads (ROUGE-1/2/L 29.3/7.0/19.5, against
25.1/6.5/16.0 for the first three sentences and 24.8/5.3/15.3 for LexRank-3). A longer
conversation keeps its opening ask, what has been settled and what is still open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil

from communicator_pipeline.analysis.lexicon import LEXICONS
from communicator_pipeline.analysis.needs_reply import ReplyNeed
from communicator_pipeline.analysis.reading import Reading, first_name
from communicator_pipeline.analysis.suspicion import may_hold_a_secret, without_secrets
from communicator_pipeline.analysis.tokens import HAN, sentences

MOST_WORDS = 75
LONGEST_QUOTE = 24  # words
HAN_PER_WORD = 1.6
_HAN = re.compile(f"[{HAN}]")
SHORT_CONVERSATION = 6  # messages that are all quoted


def word_count(text: str) -> int:
    """Words as a reader counts them: Chinese characters at 1.6 a word."""
    if text.isascii():
        return len(text.split())
    others, han = _HAN.subn(" ", text)
    if not han:
        return len(text.split())
    return ceil(han / HAN_PER_WORD) + sum(any(c.isalnum() for c in w) for w in others.split())


def shortened(sentence: str, most: int) -> str:
    """The sentence, cut after `most` words with an ellipsis."""
    if word_count(sentence) <= most:
        return sentence
    if " " in sentence:
        words = sentence.split(" ")
        while len(words) > 1 and word_count(" ".join(words)) > most:
            words.pop()
        sentence = " ".join(words)
    if word_count(sentence) > most:
        sentence = sentence[: int(most * HAN_PER_WORD)]
    return sentence.rstrip(" ,;:，、") + "…"


def _telling_sentence(reading: Reading, open_ask: bool) -> str:
    """The sentence to quote: the one that asks if it is an open ask, else the first real one."""
    said = sentences(reading.clean)
    if not said:
        return ""
    if open_ask:
        asked = [s for s in said if "?" in s or "？" in s]
        if asked:
            return asked[0]
    return next((s for s in said if word_count(s) > 3), said[0])


def _chosen(readings: Sequence[Reading], need: ReplyNeed) -> list[Reading]:
    """Which messages to quote, most telling first."""
    if not readings:
        return []
    asking = {id(r) for r in need.asking}
    first = readings[0]
    settled = [r for r in readings[1:] if r.has("solved")][-1:]
    latest = [r for r in reversed(readings) if r is not first and len(r.tokens) > 3][:1]
    order = [first, *need.asking[-2:], *need.asking[:1], *settled, *latest]
    if len(readings) <= SHORT_CONVERSATION:
        order += [r for r in readings if id(r) not in asking]
    else:
        telling = sorted(readings[1:], key=lambda r: (-r.questions, -min(len(r.tokens), 30)))
        order += telling[:4]
    return list({id(r): r for r in order}.values())


def summarise(
    readings: Sequence[Reading],
    need: ReplyNeed,
    language: str,
    injected: Sequence[Reading],
) -> tuple[str, tuple[str, ...]]:
    """The summary and the ids of the messages it quotes, both in order of time."""
    fixed = (LEXICONS.get(language) or LEXICONS["en"]).summaries
    suspicious = {id(r) for r in injected}
    asking = {id(r) for r in need.asking}
    left = MOST_WORDS
    parts: dict[int, tuple[str, str | None]] = {}
    for reading in _chosen(readings, need):
        name = reading.turn.author_name or reading.turn.author_id or "?"
        sentence = ""
        if id(reading) not in suspicious:
            sentence = _telling_sentence(reading, id(reading) in asking)
            if sentence and may_hold_a_secret(reading):
                sentence = without_secrets(sentence)
        if sentence:
            short = first_name(name) if len(name) > 24 else name
            room = min(LONGEST_QUOTE, left - word_count(short))
            if room >= 4:
                sentence = shortened(sentence, room)
                left -= word_count(short) + word_count(sentence)
                parts[reading.place] = (f"{short}: “{sentence}”", reading.turn.message_id)
            continue
        if id(reading) in suspicious:
            part = fixed["injection"].format(name=name)
        elif reading.turn.attachments:
            files = ", ".join(reading.turn.attachments[:3])
            part = fixed["files"].format(name=name, files=files)
        else:
            continue
        cost = word_count(part)
        if cost <= left:
            left -= cost
            parts[reading.place] = (part, None)
    if not parts:
        if not readings:
            return "", ()
        name = readings[0].turn.author_name or readings[0].turn.author_id or "?"
        return fixed["nothing"].format(name=name), ()
    ordered = [parts[place] for place in sorted(parts)]
    return " ".join(p for p, _ in ordered), tuple(source for _, source in ordered if source)
