"""What is looked for in a draft that a language model wrote, before anybody sees it.

Belongs here: links, secrets, facts and calls that do not come from the conversation, gaps,
leftovers of what was withheld. Does not belong here: what the model was shown (`language_model/`).

A model that reads what strangers wrote may write what they want. The draft's text is all that it
can change, so the text is what is checked: a link that nobody in the conversation named is taken
out and flagged, and so is anything that looks like a key. A fact that nobody named stays, for a
person to judge, and is flagged: it may come from an answer to somebody else. Whatever is flagged
is sent by no policy (`delivery/policies.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from communicator_pipeline.analysis.suspicion import HIDDEN, SECRET
from communicator_pipeline.drafting.facts import GAP, facts_of

NEW_LINK = "new_link"
SECRETS = "secrets"
HIDDEN_TEXT = "hidden_text"
NEW_FACT = "new_fact"
NEW_CALL = "new_call"

LINK = re.compile(
    r"!?\[([^\]\n]{0,300})\]\(\s*([^)\s]*)[^)]*\)"  # Markdown, images too
    r"|!?\[([^\]\n]{0,300})\]\[[^\]\n]{0,100}\]"  # by reference
    r"|^\s*\[[^\]\n]{1,100}\]:\s*\S+.*$"  # what a reference points to
    r"|<(?:a|img|iframe|script|link|object|embed|video|audio|source)\b[^>]{0,2000}>"
    r"|(?:\b[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\b(?:data|javascript|mailto|tel):)[^\s<>\"'`]+"
    # A bare host is a link in many chats, and its preview asks the host's server: labels of two
    # characters and more, so that "e.g." is none, or a single one before a well-known ending. No
    # host begins its ending with a capital and goes on small: that is a blank forgotten ("ok.Yes").
    r"|(?<![\w@-])(?:(?:[^\W_][\w-]{1,62}[.\uff0e\uff61]){1,6}|\w[.](?=(?:com?|me|net|org|io|ly)\b))"
    r"(?!(?-i:[A-Z][a-z]))(?:xn--[a-z0-9-]{2,59}|[a-z\uff21-\uff3a\uff41-\uff5a]{2,24}|рф|укр|中国)"
    r"(?![\w@-])(?::\d+)?(?:/[^\s<>\"'`]*)?"
    r"|\b(?<!\.)(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?/[^\s<>\"'`]*",
    re.IGNORECASE | re.MULTILINE,
)
"""Whatever a reader's program might make a link of, or load."""

CALL = re.compile(r"<([@!][^<>\s]{1,80})>|(?<![\w@./])([@\uff20][\w.-]{0,60}\w)")
"""Whoever is called by it is told, on one platform or another."""

TO_EVERYBODY = frozenset({"channel", "here", "everyone", "all", "room"})

_FACTS = frozenset({"email", "phone", "address", "amount", "order"})
"""What an answer to somebody else would give away; dates and small numbers are often reckoned."""

_TARGET = re.compile(r"[^\s<>\"'`()\[\]]{4,}")
_WITHHELD = re.compile(r"\[withheld: ([^\]\n]{1,80})\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

LINK_GAP = "[…: link]"
SECRET_GAP = "[…]"  # noqa: S105 - stands where a secret stood


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft's text that may be shown, its gaps, and what was found."""

    text: str
    gaps: tuple[str, ...]
    flags: tuple[str, ...]


def checked(text: str, said: Iterable[str], people: Collection[str] = ()) -> Checked:
    """A model's draft without what is not the conversation's. `said`: the messages' texts;
    `people`: the ids and names of who wrote them."""
    said_text = "\n".join(said)
    flags: list[str] = []
    clean = _CONTROL.sub("", HIDDEN.sub("", text.replace("\r\n", "\n")))
    if clean != text.replace("\r\n", "\n"):
        flags.append(HIDDEN_TEXT)

    def link(found: re.Match[str]) -> str:
        if _stands_in(found, said_text):
            return found[0]
        flags.append(NEW_LINK)
        label = found[1] or found[3] or ""
        return f"{label} {LINK_GAP}".strip()

    def secret(found: re.Match[str]) -> str:
        flags.append(SECRETS)
        return SECRET_GAP

    clean = LINK.sub(link, clean)
    clean = SECRET.sub(secret, clean)
    clean = _WITHHELD.sub(lambda found: f"[…: {found[1]}]", clean).strip()
    if _unsaid_facts(clean, said_text):
        flags.append(NEW_FACT)
    if not called(clean) <= ({*people} | called(said_text)) - TO_EVERYBODY:
        flags.append(NEW_CALL)
    gaps = tuple(dict.fromkeys(GAP.findall(clean)))
    return Checked(clean, gaps, tuple(dict.fromkeys(flags)))


def _stands_in(found: re.Match[str], said: str) -> bool:
    """Whether somebody in the conversation wrote the link, whole: a longer one than theirs may
    carry something out."""
    if found[2] is not None or found[3] is not None or found[0].startswith("<"):
        return False  # plain text has no labels: what is shown must be what is opened
    link = found[0].strip().rstrip(".,;:!?)]}'\"")
    return any(word.rstrip(".,;:!?)]}'\"") == link for word in _TARGET.findall(said))


def called(text: str) -> set[str]:
    """Whom a text calls, by id or name: "<@U1>", "@kim", "<!here>"."""
    return {
        (by_id or by_name)[1:].partition("^")[0].partition("|")[0]
        for by_id, by_name in CALL.findall(text)
    }


def _unsaid_facts(text: str, said: str) -> list[str]:
    """The facts of a text that nobody named, however they spelled them."""
    there, digits = said.casefold(), _digits(said)
    return [
        fact.text
        for fact in facts_of(GAP.sub(" ", text), "")
        if fact.kind in _FACTS
        and fact.text.casefold() not in there
        and (fact.kind in ("email", "address") or not _holds_digits(digits, fact.text))
    ]


_NUMBER = re.compile(r"\d(?:[ \u00a0.,'()/-]{0,2}\d)*")


def _digits(text: str) -> frozenset[str]:
    """The numbers of a text without what sets their digits apart, whole and by their parts."""
    runs = _NUMBER.findall(text)
    return frozenset("".join(filter(str.isdigit, run)) for run in runs) | frozenset(
        re.findall(r"\d+", text)
    )


def _holds_digits(numbers: frozenset[str], fact: str) -> bool:
    return _digits(fact) <= numbers or "".join(filter(str.isdigit, fact)) in numbers
