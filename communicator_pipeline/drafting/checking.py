"""What is looked for in a draft that a language model wrote, before anybody sees it.

Belongs here: links and secrets that do not come from the conversation, gaps, leftovers of what
was withheld. Does not belong here: what the model was shown (`language_model/`).

A model that reads what strangers wrote may write what they want. The draft's text is all that it
can change, so the text is what is checked: a link that nobody in the conversation named is taken
out and flagged, and so is anything that looks like a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from communicator_pipeline.analysis.suspicion import HIDDEN, SECRET
from communicator_pipeline.drafting.facts import GAP

NEW_LINK = "new_link"
SECRETS = "secrets"
HIDDEN_TEXT = "hidden_text"

LINK = re.compile(
    r"!?\[([^\]\n]{0,300})\]\(\s*([^)\s]*)[^)]*\)"  # Markdown, images too
    r"|!?\[([^\]\n]{0,300})\]\[[^\]\n]{0,100}\]"  # by reference
    r"|^\s*\[[^\]\n]{1,100}\]:\s*\S+.*$"  # what a reference points to
    r"|<(?:a|img|iframe|script|link|object|embed|video|audio|source)\b[^>]{0,2000}>"
    r"|(?:\b[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\b(?:data|javascript|mailto|tel):)[^\s<>\"'`]+"
    r"|(?<![\w@.-])(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,24}(?::\d+)?/[^\s<>\"'`]*",
    re.IGNORECASE | re.MULTILINE,
)
"""Whatever a reader's program might make a link of, or load."""

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


def checked(text: str, said: Iterable[str]) -> Checked:
    """A model's draft without what is not the conversation's. `said`: the messages' texts."""
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
    gaps = tuple(dict.fromkeys(GAP.findall(clean)))
    return Checked(clean, gaps, tuple(dict.fromkeys(flags)))


def _stands_in(found: re.Match[str], said: str) -> bool:
    """Whether somebody in the conversation wrote the link, whole: a longer one than theirs may
    carry something out."""
    if found[2] is not None or found[3] is not None or found[0].startswith("<"):
        return False  # plain text has no labels: what is shown must be what is opened
    link = found[0].strip().rstrip(".,;:!?)]}'\"")
    return any(word.rstrip(".,;:!?)]}'\"") == link for word in _TARGET.findall(said))
