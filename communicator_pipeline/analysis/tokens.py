"""Cutting a message into the tokens that every rule and model here reads.

Belongs here: cleaning, tokens, folding, sentences. Does not belong here: what a token means.

A token is a word without accents and case, one Chinese character, a number, a run of sentence
punctuation, an emoji, or a placeholder for something that is not prose (a link, a mention).
"""

from __future__ import annotations

import re
import unicodedata

LINK, MENTION, CODE = "\ue000", "\ue001", "\ue002"
"""Placeholders from Unicode's private area: they cannot be confused with what people write."""

LARGEST_MEMO = 200_000
"""Distinct words that a memo keeps before it starts again: some 20 to 40 MB."""

LONGEST_TEXT = 6_000
"""Characters read of one message: its beginning and its end. Pasted logs say nothing more."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
KANA = "\u3040-\u30ff"

_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`"
    r"|<@[^>\s]*>|<#[^>]*>|<!(?P<room>[a-z]+)[^>]*>"
    r"|!?\[(?P<label>[^\]\n]{0,300})\]\(\s*https?://[^)\s]*[^)]*\)"
    r"|<https?://[^>|\s]*(?:\|[^>]*)?>|<mailto:[^>]*>|(?:https?://|www\.)[^\s<>]+"
    r"|^(?:>|&gt;)[^\n]*$",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_MIGHT_HOLD_MARKUP = re.compile(r"[<`>\[]|://|www\.|&gt;", re.IGNORECASE)
_TOKEN = re.compile(
    rf"[{HAN}]|\d++(?:[.:,/\-]\d++)*+(?![^\W\d_{HAN}])|[^\W_{HAN}]+"
    r"|[?？¿؟]+|[!！¡]+|[.。…;；\n]+|[,，、:：]|[\ue000-\ue002@]"
    "|[\U0001f300-\U0001faff\u2600-\u27bf]|[:;]-?[)(DP]"
)
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")

_SIMPLIFIED = str.maketrans(
    "這麼嗎請幫時間問題週後誰會議謝們個說給發訂單過還沒對開關麻煩確認審價錢買賣業無法應該從樣點錯誤"
    "報電話聯繫緊馬盡處裡兒現見謂讓經約塊號國來東車長門買貨質壞連結輸選擇貸賺紅愛樂歡晚點覺歲",
    "这么吗请帮时间问题周后谁会议谢们个说给发订单过还没对开关麻烦确认审价钱买卖业无法应该从样点错误"
    "报电话联系紧马尽处里儿现见谓让经约块号国来东车长门买货质坏连结输选择贷赚红爱乐欢晚点觉岁",
)

BREAKS = frozenset("?!.\n,:")
"""Folded punctuation after which a clause starts."""


def fold(token: str) -> str:
    """The form in which tokens are compared: no case, no accents on Latin letters.

    Cyrillic keeps its marks but for ё (й and ї tell words and languages apart).
    """
    first = token[0]
    if not first.isalnum():
        return "?" if first in "?？¿؟" else "!" if first in "!！¡" else _punctuation(token)
    if token.isascii():
        return token.lower()
    token = token.casefold().translate(_SIMPLIFIED)
    if "\u0400" <= first <= "\u052f":
        return token.replace("ё", "е")
    return "".join(c for c in unicodedata.normalize("NFKD", token) if not unicodedata.combining(c))


def _punctuation(token: str) -> str:
    if token[0] in ".。…;；\n" and token[-1] not in ")(DP":
        return "."
    return {"，": ",", "、": ",", "：": ":"}.get(token, token)


def prose(text: str) -> str:
    """The message without code, quotes, links and mentions, which leave a placeholder."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT // 2] + "\n" + text[-LONGEST_TEXT // 2 :]
    if not _MIGHT_HOLD_MARKUP.search(text):
        return text
    return _NOT_PROSE.sub(_placeholder, text)


def _placeholder(match: re.Match[str]) -> str:
    whole = match.group()
    if whole.startswith("<@"):
        return MENTION
    if match["room"]:
        return "@" + match["room"]
    if whole.startswith("`"):
        return CODE
    if match["label"] is not None:
        return f"{match['label']} {LINK}"
    if whole.startswith((">", "&")):
        return ""
    return "" if whole.startswith("<#") else LINK


def raw_tokens(clean: str) -> list[str]:
    """The tokens of prose as written, before folding."""
    return _TOKEN.findall(clean)


def tokens(text: str) -> list[str]:
    """The folded tokens of any text."""
    return [fold(t) for t in raw_tokens(prose(text))]


def sentences(clean: str) -> list[str]:
    """The sentences of prose, without placeholders, in order, none empty."""
    if LINK in clean or MENTION in clean or CODE in clean:
        clean = clean.replace(LINK, "").replace(MENTION, "").replace(CODE, "")
    found = (s.strip(" \t,-*_") for s in _SENTENCE_END.split(clean))
    return [s for s in found if s and (s[0].isalnum() or any(c.isalnum() for c in s))]
