"""What a model is not shown: secrets, card numbers and, if the user says so, personal data.

Belongs here: the rules, and a text without what they name. Does not belong here: what a model
says (`drafting/checking.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from communicator_pipeline.analysis.suspicion import SECRET

Action = Literal["allow", "redact", "block"]
"""`block`: a conversation that holds such a thing is not shown to a model at all."""


class OwnPattern(BaseModel):
    """Something of one's own to look for. In `match`, `#` is a digit and `*` any run without
    spaces; everything else means itself, in capitals or not. Nothing that such a pattern matches
    takes long to look for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=60)]
    match: Annotated[str, Field(min_length=3, max_length=200)]
    action: Action = "redact"

    @field_validator("match")
    @classmethod
    def _means_something(cls, match: str) -> str:
        if match.count("*") > 3:
            raise ValueError("at most three *")
        if len(re.sub(r"[*\s]", "", match)) < 3:
            raise ValueError("at least three characters besides * and spaces")
        return match


class Withholding(BaseModel):
    """What is withheld from models, by kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secrets: Action = "redact"
    cards: Action = "redact"
    personal: Action = "allow"
    """E-mail addresses, telephone numbers, bank accounts."""

    patterns: Annotated[tuple[OwnPattern, ...], Field(max_length=50)] = ()

    def shown(self, text: str, withheld: Counter[str]) -> str:
        """The text as a model may see it; counts what it does not see in `withheld`. Raises
        `Blocked`."""
        for name, pattern, holds, action in self._rules():
            if action == "allow":
                continue

            def gone(found: re.Match[str], name: str = name, action: Action = action,
                     holds: Callable[[str], bool] = holds) -> str:  # fmt: skip
                if not holds(found[0]):
                    return found[0]
                if action == "block":
                    raise Blocked(f"it holds a {name}")
                withheld[name] += 1
                return f"[withheld: {name}]"

            text = pattern.sub(gone, text)
        return text

    def _rules(self) -> list[tuple[str, re.Pattern[str], Callable[[str], bool], Action]]:
        return [
            ("password or key", SECRET, _always, self.secrets),
            ("card number", _CARD, _is_card, self.cards),
            ("bank account", _IBAN, _is_iban, self.personal),
            ("e-mail address", _EMAIL, _always, self.personal),
            ("telephone number", _PHONE, _is_phone, self.personal),
            *(
                (own.name, re.compile(_as_regex(own.match), re.IGNORECASE), _always, own.action)
                for own in self.patterns
            ),
        ]


class Blocked(Exception):
    """A rule keeps the conversation from models; the message says which."""


def in_words(withheld: Counter[str]) -> tuple[str, ...]:
    """Such as "2 × card number"."""
    return tuple(f"{count} × {name}" for name, count in sorted(withheld.items()))


_CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_EMAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")
_PHONE = re.compile(r"(?<![\w.,/-])\+?\(?\d(?:[ ()/.-]{0,2}\d){6,14}(?![\w/-])")


def _always(found: str) -> bool:
    return True


def _is_card(found: str) -> bool:
    """By the check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(c) for c in found if c.isdigit()]
    if len(set(digits)) == 1:
        return False
    doubled = [d if n % 2 == 0 else d * 2 - 9 * (d > 4) for n, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_iban(found: str) -> bool:
    """By the check digits (ISO 13616: modulo 97)."""
    code = found.replace(" ", "")
    moved = code[4:] + code[:4]
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}")


def _is_phone(found: str) -> bool:
    digits = sum(c.isdigit() for c in found)
    return 7 <= digits <= 15 and not _DATE.fullmatch(found.strip())


def _as_regex(match: str) -> str:
    """Each part is taken where it stands first (the group is atomic): trying the others too would
    multiply with every `*`."""
    first, *others = ("".join(r"\d" if c == "#" else re.escape(c) for c in part)
                      for part in match.split("*"))  # fmt: skip
    found = first
    for place, part in enumerate(others, start=1):
        if part:
            found += rf"(?>\S{{0,{_RUN}}}?{part})"
        elif place == len(others):
            found += rf"\S{{0,{_RUN}}}"
    return found


_RUN = 80  # characters that a `*` stands for at most
