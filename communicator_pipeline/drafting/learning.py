"""What people's feedback on drafts teaches: pure, without any account, the same for the same input.

Belongs here: distilling memories from many feedback events. Does not belong here:
what a memory does to a draft (`learnt.py`), keeping either (`storage/`).

**From what.** The difference between a draft and what the user sent in its place, and what they
wrote as an instruction or a reason. Never from what others wrote: a sentence that also stands in a
message of somebody else (`borrowed`), that speaks to an assistant, or that holds a secret is not
learnt. Of others' messages only words are kept, to know when a memory fits (`Rule.about`).

**How far.** An edit gives at most three lessons. A preference holds for the person answered after
one edit: to be wrong about a greeting costs little, and the next edit takes it back. It holds for
a category after two conversations with two people, for everyone after three in two categories:
fewer may be the habit of one thread or of one subject. A sentence to say or to ask states
something, so it takes two conversations to hold at all; one with a date, a time, a number or an
amount takes three, with two people. What two thirds of the conversations do not bear out is not
held: contradiction narrows a memory to where it is true, or takes it away.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import orjson

from communicator_pipeline.analysis.lexicon import LEXICONS, phrases
from communicator_pipeline.analysis.suspicion import addresses_an_assistant, holds_a_secret
from communicator_pipeline.analysis.tokens import HAN, tokens
from communicator_pipeline.drafting.facts import GAP, facts_of
from communicator_pipeline.drafting.learnt import (
    CATEGORY,
    CONTACT,
    EVERYONE,
    ONE_OF,
    STANDING_FACTS,
    Do,
    Memory,
    Rule,
)
from communicator_pipeline.drafting.memory import SAME_STEM
from communicator_pipeline.drafting.offline import promises, tells_something
from communicator_pipeline.drafting.parts import (
    EMOJI,
    Parts,
    address_of,
    comparable_sentence,
    parted,
    sentences_of,
)
from communicator_pipeline.storage.feedback import Feedback

MOST_PER_EDIT = 3
LONGEST_SENTENCE = 300  # characters; longer ones are no standing answer
BORROWED_RUN = 5
"""Words in a row that a sentence has in common with somebody else's message; fewer are chance."""
BORROWED_RUN_HAN = 10  # in Chinese a token is a character

FOR_CATEGORY = (2, 2, 1)
FOR_EVERYONE = (3, 2, 2)
"""Conversations, people and categories in which a lesson was given."""

FOR_STATEMENT = (2, 1, 1)
FOR_DATED_STATEMENT = (3, 2, 1)
AGREEMENT = 2 / 3

ABOUT_SHARE = 0.75
"""Of the conversations that a sentence was said in: a word that so many messages have in common…"""
ABOUT_ELSEWHERE = 0.2
"""… and no more than these of the others, is what they are about."""
MOST_ABOUT = 3

CUT_SHARE = 0.8
"""Of a sentence's words: with so many of them from the draft it was shortened, not added."""

_ONCE = frozenset({"date", "time", "amount", "order", "number"})
_SHORTER = 0.6  # of the draft's words
_LENGTHS = (15, 25, 40, 60, 100)  # words: what a reply is kept within
_HARD_FACT = re.compile(r"\S*(?:@|://)\S*\w|(?:\w{0,4}\d[\d .-]?){4,}")


def _digest(*parts: object) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:24]


def borrowed(final: str, others: Iterable[str]) -> tuple[str, ...]:
    """The sentences of a reply of which a part stands in a message that somebody else wrote: five
    words in a row, or an address, a link or a longer number."""
    read = [(text, _words(text)) for text in others]
    runs: dict[int, set[tuple[str, ...]]] = {
        length: {run for _, said in read for run in _runs(said, length)}
        for length in (BORROWED_RUN, BORROWED_RUN_HAN)
    }
    everything = "\n".join(_squeezed(text) for text, _ in read)
    found = []
    for sentence in map(str.strip, sentences_of(final)):
        length = BORROWED_RUN_HAN if re.search(f"[{HAN}]", sentence) else BORROWED_RUN
        quoted = any(run in runs[length] for run in _runs(_words(sentence), length))
        facts = (_squeezed(match.group()) for match in _HARD_FACT.finditer(sentence))
        if quoted or any(fact and fact in everything for fact in facts):
            found.append(sentence)
    return tuple(found)


def _words(text: str) -> list[str]:
    return [token for token in tokens(text) if token[0].isalnum()]


def _runs(said: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    return (tuple(said[i : i + length]) for i in range(len(said) - length + 1))


def _squeezed(text: str) -> str:
    return re.sub(r"[\s.,;:!?()<>-]+", "", text.casefold())


# --- lessons ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    """What is done in one respect: how a reply begins, which sentence it says."""

    do: Do
    key: str  # what is equal counts as the same
    words: str = ""
    breaks: bool = False
    personal: bool = False  # holds a name: for this person only
    dated: bool = False


@dataclass(frozen=True)
class _Lesson:
    """One conversation's say: what its reply was like, and what of that the user made so."""

    feedback: Feedback
    values: Mapping[Do, _Value]  # greeting, sign-off, address of the final text
    changed: tuple[_Value, ...]  # what the user made so; before the least of them are left out
    kept: frozenset[str]  # keys of what the final text says; of what it does against a wish
    dropped: frozenset[str]  # of what the draft said and the final text does not
    length: int  # words of the final text; of a wish, of what it is to be
    instead: bool = False  # nothing of the draft's sentences was left

    @cached_property
    def scope(self) -> tuple[str, str]:
        return self.feedback.person_id, self.feedback.category


def distil(
    feedback: Iterable[Feedback], spent: Mapping[str, Iterable[str]] | None = None
) -> list[Memory]:
    """The memories that this feedback teaches, in a fixed order.

    `spent`: what was learnt (`key_of`) → the feedback ids that a person has had the last word on,
    by changing or deleting a memory: from these the same is not learnt again, in no scope.
    """
    used = {key: frozenset(ids) for key, ids in (spent or {}).items()}
    lessons = _at_most_three(_lessons(feedback))
    by_language: dict[str, list[_Lesson]] = defaultdict(list)
    for lesson in lessons:
        by_language[lesson.feedback.language].append(lesson)
    found: list[Memory] = []
    for language, of_language in sorted(by_language.items()):
        for do in ONE_OF[:3]:
            found += _settled(of_language, do, language, used)
        for do in ("say", "ask", "leave out"):
            found += _stated(of_language, do, language, used)
    for do in ("shorten", "no emoji"):
        found += _stated(lessons, do, "", used)
    return sorted(found, key=lambda memory: memory.memory_id)


def key_of(rule: Rule, language: str) -> str:
    """A digest of what a rule says, whatever its scope: by it a memory is known again."""
    words = "" if rule.do == "shorten" else comparable_sentence(rule.words)
    if rule.do in ("say", "ask"):
        words = _sentence_key(rule.words, language)
    return _digest(rule.do, language, words, rule.breaks)


def _lessons(feedback: Iterable[Feedback]) -> list[_Lesson]:
    """One lesson for each draft of a conversation, of the last that was done with it; and one for
    each wish in words. In order of time."""
    last: dict[tuple[str, str | None, int | None], Feedback] = {}
    lessons: list[_Lesson] = []
    for event in sorted(feedback, key=lambda f: (f.at, f.feedback_id)):
        if event.kind in ("instructed", "rejected"):
            wish = _wish(event)
            lessons += [wish] if wish else []
        if event.kind in ("approved", "edited", "rejected") and not event.taken_back:
            last[event.conversation_id, event.draft_day, event.draft_version] = event
    lessons += [
        _lesson(event)
        for event in last.values()
        if event.kind != "rejected" and event.draft_text and event.final_text
    ]
    return sorted(lessons, key=lambda one: (one.feedback.at, one.feedback.feedback_id))


def _lesson(event: Feedback) -> _Lesson:
    language, name = event.language, event.person_name
    was = parted(event.draft_text, language, name)
    now = parted(event.final_text, language, name)
    values, before = _values(now, event), _values(was, event)
    changed = [
        value
        for do, value in values.items()
        if value.key != before[do].key
        and (value.key or do != "address")
        and not _not_the_users(value.words, event)
    ]
    said = {_sentence_key(s, language): s for s in map(str.strip, was.sentences)}
    says = {_sentence_key(s, language): s for s in map(str.strip, now.sentences)}
    instead = bool(says) and not any(key in said for key in says)
    statements = [
        value
        for key, sentence in says.items()
        if key not in said and (value := _statement(sentence, key, event)) is not None
    ]
    changed += statements
    removed = [key for key in said if key not in says]
    if not instead:
        changed += [
            _Value("leave out", key, said[key]) for key in removed if not GAP.search(said[key])
        ]
    if EMOJI.search(event.draft_text) and not EMOJI.search(event.final_text):
        changed.append(_Value("no emoji", "no emoji"))
    shorter = _count(now) <= _SHORTER * _count(was)
    if shorter and not statements and any(key not in said for key in says):
        changed.append(_Value("shorten", "shorten"))
    kept = set(says)
    kept |= {"shorten"} if _count(now) > 1.2 * _count(was) else set()
    kept |= {"no emoji"} if EMOJI.search(event.final_text) else set()
    return _Lesson(
        event,
        values,
        tuple(changed),
        frozenset(kept),
        frozenset(removed),
        _count(now),
        instead,
    )


def _values(parts: Parts, event: Feedback) -> dict[Do, _Value]:
    """How a reply begins, ends and addresses its reader."""
    form = address_of(parts.body, event.language)
    breaks = parts.breaks and bool(parts.greeting)
    return {
        "greet": _template("greet", parts.greeting, event, breaks),
        "sign": _template("sign", parts.sign_off, event),
        "address": _Value("address", form, form),
    }


def _at_most_three(lessons: Sequence[_Lesson]) -> list[_Lesson]:
    """The lessons with three changes each at most: those that other conversations bear out, then
    in the order in which `_lesson` names them."""
    borne_out: dict[tuple[Do, str], set[str]] = defaultdict(set)
    for lesson in lessons:
        for value in lesson.changed:
            borne_out[value.do, value.key].add(lesson.feedback.conversation_id)

    def chosen(changed: tuple[_Value, ...]) -> tuple[_Value, ...]:
        first = sorted(changed, key=lambda value: -len(borne_out[value.do, value.key]))
        return tuple(value for value in changed if value in first[:MOST_PER_EDIT])

    return [
        _Lesson(
            one.feedback, one.values, chosen(one.changed), one.kept, one.dropped, one.length,
            one.instead,
        )
        for one in lessons
    ]  # fmt: skip


def _count(parts: Parts) -> int:
    return len(parts.body.split()) + len(re.findall(f"[{HAN}]", parts.body)) // 2


def _template(do: Do, text: str, event: Feedback, breaks: bool = False) -> _Value:
    """A greeting or a sign-off with places for the reader's names."""
    words = " ".join(text.split()) if do == "greet" else text
    names = event.person_name.split()
    # In a sentence "will" is no name, whoever is called Will.
    case = re.IGNORECASE if do in ("greet", "sign") else re.NOFLAG
    if names:
        whole = [(event.person_name, "{full}"), (names[-1], "{last}")] if len(names) > 1 else []
        for name, place in [*whole[:1], (names[0], "{name}"), *whole[1:]]:
            words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", place, words, flags=case)
    key = orjson.dumps([comparable_sentence(words), breaks]).decode()
    return _Value(do, key, words, breaks, personal=do == "greet" and _names_somebody(words, event))


_TITLES = frozenset(
    "mr mrs ms miss dr prof professor sir madam all there team everyone everybody folks "
    "herr frau herrn damen und zusammen alle monsieur madame señor señora tous todos".split()
)


def _names_somebody(greeting: str, event: Feedback) -> bool:
    """Whether a greeting holds a name that is not the reader's as the platform has it: a nickname,
    say. It is for this person alone."""
    lexicon = LEXICONS.get(event.language) or LEXICONS["en"]
    known = {w.strip("^*") for p in phrases(lexicon.greetings) for w in p.split()} | _TITLES
    bare = re.sub(r"\{\w+\}", " ", greeting)
    return any(
        not any(word.casefold().startswith(one) for one in known if len(one) > 1)
        for word in re.findall(r"[^\W\d_]+", bare)
    )


def _statement(sentence: str, key: str, event: Feedback) -> _Value | None:
    """A sentence that the user added, if it may be said again."""
    language = event.language
    if (
        len(sentence) > LONGEST_SENTENCE
        or GAP.search(sentence)
        or _is_cut_from(sentence, event.draft_text)
        or _not_the_users(sentence, event)
        or promises(sentence, language)
    ):
        return None
    kinds = {fact.kind for fact in facts_of(sentence, language)}
    asks = sentence.endswith(("?", "？"))
    if not asks and not kinds & set(STANDING_FACTS) and not tells_something(sentence, language):
        return None
    if asks and len(tokens(sentence)) < 4:
        return None
    words = _template("say", sentence, event).words
    return _Value("ask" if asks else "say", key, words, dated=bool(kinds & _ONCE))


def _is_cut_from(sentence: str, draft: str) -> bool:
    """Whether a sentence is what was left of the draft's: nearly all of its words stand there."""
    words, there = _words(sentence), set(_words(draft))
    return sum(word in there for word in words) >= CUT_SHARE * len(words)


def _not_the_users(text: str, event: Feedback) -> bool:
    """What is never learnt, whoever sent it: others' words, words to a machine, secrets."""
    said = comparable_sentence(text)
    return (
        holds_a_secret(text)
        or addresses_an_assistant(text)
        or any(said and said in comparable_sentence(other) for other in event.borrowed)
    )


def _sentence_key(sentence: str, language: str) -> str:
    """What two spellings of a statement have in common: all the addresses and links that it names;
    without any, or with a date or an amount, its very words."""
    facts = facts_of(sentence, language)
    standing = sorted({f.text.casefold() for f in facts if f.kind in STANDING_FACTS})
    if standing and not any(f.kind in _ONCE for f in facts):
        return " ".join([*standing, "?" * sentence.rstrip().endswith(("?", "？"))]).strip()
    return comparable_sentence(sentence)


_WISHES: Mapping[Do, str] = {
    "shorten": r"\bshort(?:er|en)?\b|too long|\bbrief(?:er)?\b|\bconcise|kürzer|zu lang|knapper"
    r"|plus court|trop long|más cort|demasiado larg|короче|слишком длин|коротше|задовг|短一点|太长",
    "no emoji": r"(?:no|without|keine|ohne|sans|sin|без|不要)\s*(?:the\s+)?(?:emoji|smil|эмодзи"
    r"|смайл|емодзі|表情)",
}
_ADDRESSED = {
    "familiar": r"\bduzen\b|\bper du\b|\b(?:use|mit) du\b|tutoyer|tutear|на ты\b|на ти\b",
    "polite": r"\bsiezen\b|\bper sie\b|\b(?:use|mit) sie\b|vouvoyer|\busted\b|на вы\b|на ви\b",
}


def _wish(event: Feedback) -> _Lesson | None:
    """What an instruction or a reason for a rejection asks for, as far as it is one of a few things
    that need no understanding. A second one in the same conversation adds nothing."""
    note = event.note.casefold()
    if not note or holds_a_secret(note) or addresses_an_assistant(event.note):
        return None
    changed = [_Value(do, do) for do, looks in _WISHES.items() if re.search(looks, note)]
    values: dict[Do, _Value] = {}
    for form, looks in _ADDRESSED.items():
        if re.search(looks, note):
            values["address"] = _Value("address", form, form)
            changed.append(values["address"])
    if not changed:
        return None
    length = _count(parted(event.draft_text, event.language, event.person_name)) // 2
    return _Lesson(event, values, tuple(changed), frozenset(), frozenset(), length)


_SAID = re.compile(
    r"\s*(?:please\s+)?(?:say|add|write|mention|sag|schreib|ergänze|dis|ajoute|di|añade|скажи|добавь"
    r"|напиши|додай|说|加上|写)\s*[:：]\s*(.{3,})",
    re.IGNORECASE | re.DOTALL,
)


def wished(instruction: str, draft_text: str, language: str) -> list[Rule]:
    """What an instruction for one draft asks for, as far as it needs no understanding: shorter,
    without emoji, and "say: …" with the words to say."""
    said = _SAID.fullmatch(instruction)
    if said is not None:
        return [Rule("say", said[1].strip())]
    note = instruction.casefold()
    found = [do for do, looks in _WISHES.items() if re.search(looks, note)]
    half = max(1, _count(parted(draft_text, language, "")) // 2)
    return [Rule(do, most=half if do == "shorten" else 0) for do in found]


# --- scopes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Poll:
    """What the conversations of a scope say to one value."""

    pro: Sequence[_Lesson]
    contra: int  # conversations
    given: Sequence[_Lesson]  # those of `pro` in which the user made it so

    def carries(self, needs: tuple[int, int, int]) -> bool:
        conversations = {one.feedback.conversation_id for one in self.pro}
        people = {one.feedback.person_id for one in self.pro}
        categories = {one.feedback.category for one in self.pro}
        enough = all(
            len(found) >= least
            for found, least in zip((conversations, people, categories), needs, strict=True)
        )
        everybody = len(conversations) + self.contra
        return bool(self.given) and enough and len(conversations) >= AGREEMENT * everybody


def _newest_of_each(lessons: Iterable[_Lesson]) -> list[_Lesson]:
    """The newest lesson of each conversation, in order of time."""
    found: dict[str, _Lesson] = {}
    for one in lessons:
        found.pop(one.feedback.conversation_id, None)
        found[one.feedback.conversation_id] = one
    return list(found.values())


def _settled(
    lessons: Sequence[_Lesson], do: Do, language: str, used: Mapping[str, frozenset[str]]
) -> list[Memory]:
    """How replies begin, end and address, where the user decided it: for everyone, and for those
    categories and people for whom it is otherwise."""
    votes = _newest_of_each(
        one for one in lessons if do in one.values and (one.values[do].key or do != "address")
    )

    def value_of(within: Sequence[_Lesson], needs: tuple[int, int, int], personal: bool) -> str:
        counted = Counter(one.values[do].key for one in within)
        for key, _ in counted.most_common(1):
            poll = poll_of(within, key)
            if poll.carries(needs) and (personal or not poll.given[-1].values[do].personal):
                return key
        return ""

    def poll_of(within: Sequence[_Lesson], key: str) -> _Poll:
        pro = [
            one
            for one in within
            if one.values[do].key == key
            and one.feedback.feedback_id
            not in used.get(key_of(_rule(one.values[do]), language), ())
        ]
        given = [one for one in pro if any(v.do == do for v in one.changed)]
        return _Poll(pro, sum(one.values[do].key != key for one in within), given)

    def emit(scope: str, within: Sequence[_Lesson], key: str) -> None:
        given = poll_of(within, key).given
        found.append(_memory(scope, language, _rule(given[-1].values[do]), given))

    found: list[Memory] = []
    everyones = value_of(votes, FOR_EVERYONE, False)
    if everyones:
        emit(EVERYONE, votes, everyones)
    of_category: dict[str, str] = {}
    for category in sorted({one.feedback.category for one in votes}):
        within = [one for one in votes if one.feedback.category == category]
        key = value_of(within, FOR_CATEGORY, False)
        of_category[category] = key or everyones
        if key and key != everyones:
            emit(CATEGORY + category, within, key)
    for person in sorted({one.feedback.person_id for one in votes} - {""}):
        within = [one for one in votes if one.feedback.person_id == person]
        key = value_of(within, (1, 1, 1), True)
        known = {of_category[one.feedback.category] for one in within}
        if key and known != {key}:
            emit(CONTACT + person, within, key)
    return _each_source_once(found)


def _stated(
    lessons: Sequence[_Lesson], do: Do, language: str, used: Mapping[str, frozenset[str]]
) -> list[Memory]:
    """What is said, asked or left out: for everyone where nobody is an exception, else for the
    categories, else for the people of whom it is true."""
    added: set[str] = set()
    by_key: dict[str, list[_Lesson]] = {}
    for one in lessons:
        added.update(v.key for v in one.changed if v.do in ("say", "ask"))
        for key in dict.fromkeys(v.key for v in one.changed if v.do == do):
            by_key.setdefault(key, []).append(one)
    everybody = _newest_of_each(lessons)
    fewest = FOR_STATEMENT[0] if do in ("say", "ask") else 1
    found: list[Memory] = []
    for key, several in by_key.items():
        given = _newest_of_each(several)
        # What the user added themselves is taken away where it was too much, and no more.
        if len(given) >= fewest and not (do == "leave out" and key in added):
            found += _stated_one(everybody, given, do, key, language, used)
    return found


def _stated_one(
    everybody: Sequence[_Lesson],
    given: Sequence[_Lesson],
    do: Do,
    key: str,
    language: str,
    used: Mapping[str, frozenset[str]],
) -> list[Memory]:
    """The memories of one sentence, which was given in these lessons; `everybody`: the newest
    lesson of each conversation."""
    newest = next(v for v in given[-1].changed if v.do == do and v.key == key)
    spent = used.get(key_of(_rule(newest), language), frozenset())
    given = [one for one in given if one.feedback.feedback_id not in spent]
    if not given:
        return []
    own = {one.feedback.conversation_id for one in given}
    rest = [one for one in everybody if one.feedback.conversation_id not in own]
    is_statement = do in ("say", "ask")
    agreeing = [one for one in rest if is_statement and key in one.kept]
    contrary = [one for one in rest if key in (one.dropped if is_statement else one.kept)]

    def poll_of(scope: str) -> _Poll:
        def inside(some: Iterable[_Lesson]) -> list[_Lesson]:
            return [one for one in some if _is_in(one, scope)]

        mine = inside(given)
        return _Poll(inside([*given, *agreeing]), len(inside(contrary)), mine)

    least = (1, 1, 1)
    if is_statement:
        least = FOR_DATED_STATEMENT if newest.dated else FOR_STATEMENT

    def carries(scope: str, needs: tuple[int, int, int]) -> bool:
        return poll_of(scope).carries(
            (max(needs[0], least[0]), max(needs[1], least[1]), max(needs[2], least[2]))
        )

    people = sorted({one.feedback.person_id for one in given} - {""})
    categories = sorted({one.feedback.category for one in given})
    exceptions = [
        scope
        for scope in {
            *(CONTACT + one.feedback.person_id for one in contrary),
            *(CATEGORY + one.feedback.category for one in contrary),
        }
        if poll_of(scope).contra >= 2 and poll_of(scope).contra > len(poll_of(scope).pro)
    ]
    scopes: list[str] = []
    if carries(EVERYONE, FOR_EVERYONE) and not exceptions:
        scopes = [EVERYONE]
    else:
        scopes = [CATEGORY + c for c in categories if carries(CATEGORY + c, FOR_CATEGORY)]
        covered = {one.feedback.feedback_id for s in scopes for one in poll_of(s).given}
        scopes += [
            CONTACT + person
            for person in people
            if carries(CONTACT + person, (1, 1, 1))
            and any(o.feedback.feedback_id not in covered for o in poll_of(CONTACT + person).given)
        ]
    found = []
    for scope in scopes:
        within = poll_of(scope).given
        rule = _rule(next(v for v in within[-1].changed if v.do == do and v.key == key))
        if is_statement:
            others = [one for one in rest if _is_in(one, scope) and key not in one.kept]
            about = _about(within, others)
            if about is None:
                continue
            instead = sum(one.instead for one in within) >= AGREEMENT * len(within)
            rule = Rule(rule.do, rule.words, about, instead and do == "say")
        if do == "shorten":
            longest = max(one.length for one in within)
            most = next((n for n in _LENGTHS if n >= longest), _LENGTHS[-1])
            rule = Rule("shorten", most=most)
        found.append(_memory(scope, language, rule, within))
    return _each_source_once(found)


def _is_in(lesson: _Lesson, scope: str) -> bool:
    person, category = lesson.scope
    return scope in (EVERYONE, CONTACT + person, CATEGORY + category)


def _about(given: Sequence[_Lesson], others: Sequence[_Lesson]) -> tuple[str, ...] | None:
    """The words that tell when a sentence is said: those that the messages which it answered share
    and others do not. Empty where it is said whatever the message is about; None if that cannot be
    told: better not said than said of everything."""

    def stems(lesson: _Lesson) -> set[str]:
        return {word[:SAME_STEM] for word in lesson.feedback.about}

    mine = Counter(stem for one in given for stem in stems(one))
    theirs = Counter(stem for one in others for stem in stems(one))
    spelled: dict[str, str] = {}
    for one in given:
        for word in one.feedback.about:
            shortest = min(spelled.get(word[:SAME_STEM], word), word, key=lambda w: (len(w), w))
            spelled[word[:SAME_STEM]] = shortest
    telling = [
        stem
        for stem, count in mine.items()
        if count >= ABOUT_SHARE * len(given) and theirs[stem] <= ABOUT_ELSEWHERE * len(others)
    ]
    telling.sort(key=lambda stem: (-mine[stem], theirs[stem], -len(spelled[stem]), stem))
    # A word that all of them share says it better than one that some do.
    best = [stem for stem in telling if mine[stem] == mine[telling[0]]][:MOST_ABOUT]
    if best:
        return tuple(spelled[stem] for stem in best)
    return () if len(given) >= AGREEMENT * (len(given) + len(others)) and others else None


def _rule(value: _Value) -> Rule:
    return Rule(value.do, value.words, breaks=value.breaks)


def _memory(scope: str, language: str, rule: Rule, given: Sequence[_Lesson]) -> Memory:
    sources = tuple(sorted({one.feedback.feedback_id for one in given}))
    return Memory(
        _digest(scope, key_of(rule, language)),
        scope,
        language,
        rule,
        sources,
        max(one.feedback.at for one in given),
    )


def _each_source_once(memories: Sequence[Memory]) -> list[Memory]:
    """In one respect an edit teaches one memory: the widest. A narrower one that has no source of
    its own left is not needed."""
    seen: set[str] = set()
    found = []
    for memory in memories:
        own = tuple(s for s in memory.sources if s not in seen)
        seen.update(own)
        if own:
            found.append(
                Memory(
                    memory.memory_id, memory.scope, memory.language, memory.rule, own,
                    memory.changed_at,
                )
            )  # fmt: skip
    return found
