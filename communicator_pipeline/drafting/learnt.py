"""What was learnt from people, chosen for a draft and applied to it: pure.

Belongs here: a memory and its rule, the rule in words, which memories count for one draft, and
what the drafter without a language model does with them. Does not belong here: how a memory is
arrived at (`learning.py`), where it is kept (`storage/memories.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from communicator_pipeline.drafting.draft import Draft
from communicator_pipeline.drafting.facts import GAP, facts_of
from communicator_pipeline.drafting.memory import SAME_STEM, content_words
from communicator_pipeline.drafting.parts import (
    Parts,
    address_of,
    called,
    comparable_sentence,
    joined,
    parted,
    without_emoji,
)

MOST_CHOSEN = 6
"""Memories for one draft; more of them contradict each other, and nobody reads why."""

EVERYONE = "everyone"
CONTACT = "contact:"
CATEGORY = "category:"

Kind = Literal["fact", "preference", "procedure"]
Do = Literal["say", "ask", "greet", "sign", "address", "leave out", "shorten", "no emoji", "note"]

KINDS: dict[Do, Kind] = {
    "say": "fact",
    "ask": "procedure",
    "greet": "preference",
    "sign": "preference",
    "address": "preference",
    "leave out": "preference",
    "shorten": "preference",
    "no emoji": "preference",
    "note": "fact",
}

ONE_OF: tuple[Do, ...] = ("greet", "sign", "address", "shorten")
"""Of these a draft follows one: the narrowest, then the newest."""

STANDING_FACTS = ("email", "link", "phone")
"""What names the same thing on every occasion; a date or an amount is of one occasion."""

MEMORY = "memory:"
"""What ids of memories begin with in what a draft rests on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the drafter does. `words`: of `greet` and `sign` what to begin or end with ("" for
    nothing, with {name}, {last}, {full} for the reader's names), of `say`, `ask` and `leave out` a
    sentence, of `address` "familiar" or "polite", of `note` whatever a person wrote."""

    do: Do
    words: str = ""
    about: tuple[str, ...] = ()  # folded words; empty: whatever the message is about
    instead: bool = False  # `say`: in the place of all else
    breaks: bool = False  # `greet`: with a new line after it
    most: int = 0  # `shorten`: words

    def to_json(self) -> str:
        """What is not the default, in a fixed order."""
        kept = {name: value for name, value in asdict(self).items() if value or name == "do"}
        return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def rule_of(text: str) -> Rule:
    """The rule that `to_json` spelled."""
    held: dict[str, Any] = orjson.loads(text)
    return Rule(**{**held, "about": tuple(held.get("about", ()))})


@dataclass(frozen=True, slots=True)
class Memory:
    """Something learnt, or written by a person. Times are UTC."""

    memory_id: str
    scope: str  # 'everyone', 'contact:<person_id>', 'category:<name>'
    language: str  # '' in any
    rule: Rule
    sources: tuple[str, ...]  # feedback ids; none if a person wrote it
    changed_at: datetime  # when it was learnt, or last changed by a person
    by_person: bool = False  # a person wrote or changed it

    @property
    def kind(self) -> Kind:
        return KINDS[self.rule.do]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A memory that counts for a draft, and why."""

    memory: Memory
    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a draft answers, as far as memories are concerned."""

    person_id: str
    text: str
    language: str
    category: str


def described(rule: Rule) -> str:
    """The rule in words, for people."""
    words = (
        rule.words.replace("{name}", "[first name]")
        .replace("{last}", "[last name]")
        .replace("{full}", "[name]")
        .replace("\n", " / ")
    )
    said = {
        "say": f"Say “{words}”",
        "ask": f"Ask “{words}”",
        "greet": f"Begin with “{words}”" if words else "Begin without a greeting",
        "sign": f"End with “{words}”" if words else "End without a sign-off",
        "address": f"Use the {words} form of address"
        + {"familiar": " (du, tu, ты)", "polite": " (Sie, vous, вы)"}.get(words, ""),
        "leave out": f"Leave out “{words}”",
        "shorten": f"Keep it within {rule.most} words",
        "no emoji": "Use no emoji",
        "note": words,
    }[rule.do]
    if rule.instead:
        said += " and nothing else"
    if rule.about:
        said += f", when the message is about {' and '.join(rule.about)}"
    return said


# --- choosing --------------------------------------------------------------------------------


def choose(memories: Iterable[Memory], asked: Asked, most: int = MOST_CHOSEN) -> tuple[Chosen, ...]:
    """At most six memories for one draft, the most fitting first.

    What is learnt of the person goes before the category's, that before everyone's; then by how
    much of what the memory is about the message names, then the newest. Of greetings, sign-offs,
    addresses and lengths only the first counts.
    """
    words = {word[:SAME_STEM] for word in content_words(asked.text, asked.language)}
    fitting = []
    for memory in memories:
        rank = _scope_rank(memory.scope, asked)
        likeness = _likeness(memory.rule, words)
        if rank is not None and likeness is not None and memory.language in ("", asked.language):
            order = (rank, -likeness, -memory.changed_at.timestamp(), memory.memory_id)
            fitting.append((order, memory))
    chosen: list[Chosen] = []
    taken: set[Do] = set()
    for _, memory in sorted(fitting, key=lambda found: found[0]):
        do = memory.rule.do
        if do in taken and do in ONE_OF:
            continue
        taken.add(do)
        chosen.append(Chosen(memory, _why(memory, asked)))
    return tuple(chosen[:most])


def _scope_rank(scope: str, asked: Asked) -> int | None:
    places = (CONTACT + asked.person_id, CATEGORY + asked.category, EVERYONE)
    return places.index(scope) if scope in places else None


def _likeness(rule: Rule, stems: set[str]) -> float | None:
    """The share of what the rule is about that the message names; None if that is too little: one
    word of one, two of more."""
    if not rule.about:
        return 0.0
    named = sum(word[:SAME_STEM] in stems for word in rule.about)
    return named / len(rule.about) if named >= min(2, len(rule.about)) else None


def _why(memory: Memory, asked: Asked) -> str:
    if memory.scope.startswith(CONTACT):
        why = "so you answer this person"
    elif memory.scope.startswith(CATEGORY):
        why = f"so you answer what is {memory.scope.removeprefix(CATEGORY)}"
    else:
        why = "so you answer everyone"
    if memory.rule.about:
        why += f", about {' and '.join(memory.rule.about)}"
    return why


# --- applying --------------------------------------------------------------------------------

_IN_ORDER: tuple[Do, ...] = ("leave out", "shorten", "say", "ask", "no emoji", "greet", "sign")


def apply(draft: Draft, chosen: Sequence[Chosen], person_name: str, signature: str = "") -> Draft:
    """The draft as the memories want it; each that changed something stands in `rests_on` and in
    the reason. A draft without a text stays without one, and no text is left empty."""
    if draft.outcome == "no_reply" or not draft.text or not chosen:
        return draft
    parts = parted(draft.text, draft.language, person_name, signature)
    used: list[Chosen] = []
    for do in _IN_ORDER:
        for one in chosen:
            # The text may be in English for want of the thread's language.
            if one.memory.rule.do != do or one.memory.language not in ("", draft.language):
                continue
            after = _applied(parts, one.memory.rule, draft.language, person_name)
            if after != parts and after.sentences:
                parts = after
                used.append(one)
    if not used:
        return draft
    text = joined(parts, draft.language)
    gaps = tuple(dict.fromkeys(GAP.findall(text)))
    taught = "; ".join(f"{described(one.memory.rule)} ({one.why})" for one in used)
    return replace(
        draft,
        text=text,
        outcome="needs_fill" if gaps else "ready",
        gaps=gaps,
        rests_on=(*draft.rests_on, *(MEMORY + one.memory.memory_id for one in used)),
        reason=f"{draft.reason}; as you taught it: {taught}",
    )


def skips(chosen: Sequence[Chosen], reply: str, language: str) -> bool:
    """Whether an old answer is not to be reused: it addresses its reader otherwise."""
    wanted = [c.memory.rule.words for c in chosen if c.memory.rule.do == "address"]
    return bool(wanted) and address_of(reply, language) not in ("", wanted[0])


def _applied(parts: Parts, rule: Rule, language: str, person_name: str) -> Parts:
    if rule.do == "greet":
        greeting = filled(rule.words, person_name)
        return (
            parts
            if greeting is None
            else replace(parts, greeting=greeting, breaks=rule.breaks and bool(greeting))
        )
    if rule.do == "sign":
        sign_off = filled(rule.words, person_name)
        return parts if sign_off is None else replace(parts, sign_off=sign_off)
    if rule.do == "no emoji":
        return without_emoji(parts)
    if rule.do == "leave out":
        unwanted = comparable_sentence(rule.words)
        kept = tuple(s for s in parts.sentences if comparable_sentence(s) != unwanted)
        return replace(parts, sentences=kept) if kept else parts
    if rule.do == "shorten":
        kept = parts.sentences
        while len(kept) > 1 and rule.most and _words("".join(kept)) > rule.most:
            kept = kept[:-1]
        return replace(parts, sentences=kept)
    sentence = filled(rule.words, person_name)
    if sentence is None or says(parts, sentence, language):
        return parts
    sentences = (sentence,) if rule.instead else (*parts.sentences, sentence)
    return replace(parts, sentences=sentences)


def says(parts: Parts, sentence: str, language: str) -> bool:
    """Whether a reply says this already: the sentence itself, or all that it names."""
    if comparable_sentence(sentence) in map(comparable_sentence, parts.sentences):
        return True
    named = [f.text for f in facts_of(sentence, language) if f.kind in STANDING_FACTS]
    return bool(named) and all(text in parts.body for text in named)


def filled(template: str, person_name: str) -> str | None:
    """The words with the reader's names in them; None where a name is wanted and unknown."""
    names = {"{name}": called(person_name), "{last}": "", "{full}": ""}
    if len(person_name.split()) > 1 and names["{name}"]:
        names |= {"{last}": person_name.split()[-1], "{full}": person_name.strip()}
    if any(place in template and not name for place, name in names.items()):
        return None
    return re.sub(r"\{(?:name|last|full)\}", lambda place: names[place.group()], template)


def _words(text: str) -> int:
    han = len(re.findall("[\u3400-\u9fff]", text))
    return len(text.split()) + han // 2
