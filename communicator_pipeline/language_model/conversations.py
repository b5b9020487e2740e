"""A conversation as a model reads it: numbered, marked as data, without what is withheld.

Belongs here: putting a transcript into the prompt's JSON, and shortening what does not fit. Does
not belong here: what is asked about it (`analysis/by_model.py`, `drafting/by_model.py`).

What does not fit is never left out in silence. Older messages are summarised in stretches whose
borders depend on the messages' places and lengths alone, so that a new message changes none of
them and their summaries are kept answers. A message that is too long by itself says how much is
missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.language_model.asking import (
    Answer,
    NoAnswer,
    Request,
    Trouble,
    Usage,
)
from communicator_pipeline.language_model.model import LanguageModel
from communicator_pipeline.language_model.provenance import Provenance
from communicator_pipeline.language_model.withholding import Blocked, Withholding, in_words
from communicator_pipeline.messages import Transcript, Turn
from communicator_pipeline.prompts import PromptVersion

T = TypeVar("T", bound=BaseModel)

LONGEST = 5_000
"""Messages of a conversation that are read at most: its first and its newest."""

STRETCH = 20
"""Messages that are summarised together; and summaries, where there are too many of them."""

_STEPS = (STRETCH, 5, 1)
"""Messages in a stretch: fewer where so many would not fit into one question, or where they would
leave little of the newest ones as they are."""

MOST_SUMMARIES = 30

_LONGEST_NAMED = 12  # of the owner's names
_OVERHEAD = 60  # characters of JSON around a message's text


class Summary(BaseModel):
    """A stretch of a conversation in few words."""

    model_config = ConfigDict(extra="forbid")

    summary: Annotated[str, Field(min_length=1, max_length=4_000)]


@dataclass(frozen=True)
class Shown:
    """What a model is shown of one conversation."""

    data: dict[str, Any]
    message_ids: dict[int, str]  # number in the data → message id
    withheld: tuple[str, ...]
    usage: Usage = field(default_factory=Usage)  # of summarising

    def half(self) -> Shown | None:
        """The newer half; None when there is nothing to halve."""
        messages = self.data["messages"]
        kept = messages[len(messages) // 2 :]
        if len(messages) < 2:
            return None
        gone = len(messages) - len(kept) + self.data.get("not_shown", 0)
        return replace(self, data={**self.data, "messages": kept, "not_shown": gone})


@dataclass
class _Stretches:
    """The older part of one conversation, on its way to summaries."""

    parts: list[dict[str, Any]]
    usage: Usage = field(default_factory=Usage)
    failure: NoAnswer | None = None


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """What a model says of one conversation."""

    value: T
    message_ids: dict[int, str]  # number that it may name → message id
    made: Provenance


Question = Callable[[int, Shown], Request[T]]
"""What is asked about a conversation, by its place among the transcripts and what is shown."""


class ConversationAsker:
    """Asks a model about conversations of one account, with one prompt; for summaries of their
    older parts first, if it must."""

    def __init__(
        self,
        model: LanguageModel,
        prompt: PromptVersion,
        compact: PromptVersion,
        rules: Withholding,
        account: str,
        user_id: str,
    ) -> None:
        self._model = model
        self.prompt = prompt
        self._compact = compact
        self._rules = rules
        self.account = account
        self.user_id = user_id

    def fingerprint(self) -> str:
        """What answers depend on besides the conversations."""
        rules = self._rules.model_dump_json()
        return f"{self._model.fingerprint} {self.prompt!r} {self._compact.name} {rules}"

    def ask(
        self, transcripts: Sequence[Transcript], question: Question[T]
    ) -> list[Told[T] | NoAnswer]:
        """What the model says of each, or why it says nothing, in order. What it finds too large
        is asked once more about the newer half."""
        shown = self.read(transcripts)
        asked = {
            place: self._halving(question, place, one)
            for place, one in enumerate(shown)
            if isinstance(one, Shown)
        }
        answers = dict(zip(asked, self._model.complete_all([*asked.values()]), strict=True))
        found: list[Told[T] | NoAnswer] = []
        for place, one in enumerate(shown):
            if isinstance(one, NoAnswer):
                found.append(one)
                continue
            answer = answers[place]
            if isinstance(answer, NoAnswer):
                answer.usage += one.usage
                found.append(answer)
                continue
            usage = one.usage + answer.usage
            made = Provenance(answer.model, self.prompt.name, withheld=one.withheld, usage=usage)
            found.append(Told(answer.value, one.message_ids, made))
        return found

    def _halving(self, question: Question[T], place: int, shown: Shown) -> Request[T]:
        def shorter() -> Request[T] | None:
            half = shown.half()
            return None if half is None else question(place, half)

        return replace(question(place, shown), shorter=shorter)

    def read(self, transcripts: Sequence[Transcript]) -> list[Shown | NoAnswer]:
        """What the model is shown of each, in order."""
        limit = self._model.config.context_characters
        shown: list[Shown | NoAnswer] = []
        older: dict[int, _Stretches] = {}
        for number, transcript in enumerate(transcripts):
            try:
                one, stretches = _shown(transcript, self._rules, limit)
            except Blocked as blocked:
                shown.append(NoAnswer(Trouble.WITHHELD, str(blocked)))
                continue
            shown.append(one)
            if stretches:
                older[number] = _Stretches(stretches)
        self._summarise(older)
        for number, done in older.items():
            before = shown[number]
            assert isinstance(before, Shown)
            if done.failure is not None:
                done.failure.usage = done.usage + done.failure.usage
                shown[number] = done.failure
            else:
                earlier = [part["summary"] for part in done.parts]
                data = {**before.data, "earlier": earlier}
                shown[number] = replace(before, data=data, usage=done.usage)
        return shown

    def seen(self, text: str) -> str:
        """A text beside the conversation as a model may see it; "" for one that is blocked."""
        try:
            return self._rules.shown(text, Counter())
        except Blocked:
            return ""

    def _summarise(self, older: dict[int, _Stretches]) -> None:
        """Every stretch in words; then summaries of summaries, until there are few."""
        while True:
            asked = [
                (one, place)
                for one in older.values()
                if one.failure is None
                for place, part in enumerate(one.parts)
                if "summary" not in part
            ]
            if not asked:
                return
            answers = self._model.complete_all(
                [self._request(one.parts[place]) for one, place in asked]
            )
            for (one, place), answer in zip(asked, answers, strict=True):
                if isinstance(answer, Answer):
                    one.parts[place] = {"summary": answer.value.summary}
                    one.usage += answer.usage
                else:
                    one.failure = answer
            for one in older.values():
                if len(one.parts) > MOST_SUMMARIES and all("summary" in p for p in one.parts):
                    one.parts = _joined(one.parts)

    def _request(self, data: dict[str, Any]) -> Request[Summary]:
        return Request(
            self._compact.prompt({}, data), Summary, self.account, self.user_id, "compact"
        )


def _joined(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each full stretch of summaries as one part that is to be summarised; the rest as it is."""
    whole = len(parts) - len(parts) % STRETCH
    stretches = [parts[start : start + STRETCH] for start in range(0, whole, STRETCH)]
    joined = [{"earlier": [part["summary"] for part in each]} for each in stretches]
    return [*joined, *parts[whole:]]


def _shown(
    transcript: Transcript, rules: Withholding, limit: int
) -> tuple[Shown, list[dict[str, Any]]]:
    """What is shown verbatim, and the stretches before it that are to be summarised."""
    withheld: Counter[str] = Counter()
    longest = limit // 4
    numbered: list[tuple[int, Turn]] = []
    for place, turn in enumerate(transcript.turns):
        number = place + 1 + (transcript.left_out if place else 0)
        if turn.kind == "message" and not turn.deleted:
            numbered.append((number, turn))
    messages = [_message(number, turn, rules, longest, withheld) for number, turn in numbered]
    sizes = [len(message["text"]) + _OVERHEAD for message in messages]
    begin = 0
    if sum(sizes) > limit:
        begin = _begin(messages, sizes, limit * 2 // 3)
    data: dict[str, Any] = {
        "channel": rules.shown(transcript.channel_name, withheld),
        "kind": transcript.channel_kind,
        "owner": list(transcript.my_names[:_LONGEST_NAMED]),
        "messages": messages[begin:],
    }
    if transcript.left_out:
        data["not_shown"] = transcript.left_out
    shown = Shown(data, {number: turn.message_id for number, turn in numbered}, in_words(withheld))
    return shown, [{"messages": each} for each in _stretches(messages, sizes, begin, limit)]


def _begin(messages: Sequence[dict[str, Any]], sizes: Sequence[int], room: int) -> int:
    """Where what is shown verbatim begins: at a stretch's border, as early as there is room, and
    with the newest message in any case."""
    first, size = len(messages) - 1, sizes[-1]
    while first > 0 and size + sizes[first - 1] <= room:
        first -= 1
        size += sizes[first]
    latest = first + (len(messages) - first) // 2  # else little would be left as it is
    for step in _STEPS:
        for place in range(first, latest + 1):
            if place == 0 or _block(messages[place], step) != _block(messages[place - 1], step):
                return place
    raise AssertionError("each message begins a stretch of one")


def _stretches(
    messages: Sequence[dict[str, Any]], sizes: Sequence[int], begin: int, limit: int
) -> list[list[dict[str, Any]]]:
    """The messages before `begin` in stretches, the longest that are over by then and fit into
    one question."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    lengths = {step: Counter[int]() for step in _STEPS}
    for message, size in zip(messages[:begin], sizes[:begin], strict=True):
        for step in _STEPS:
            lengths[step][_block(message, step)] += size
    for message in messages[:begin]:
        step = next(
            step
            for step in _STEPS
            if step == 1
            or (
                _block(message, step) < _block(messages[begin], step)
                and lengths[step][_block(message, step)] <= limit
            )
        )
        found.setdefault((step, _block(message, step)), []).append(message)
    return list(found.values())


def _block(message: dict[str, Any], step: int) -> int:
    """The stretch that a message stands in, by its number."""
    return int((message["n"] - 1) // step)


def _message(
    number: int, turn: Turn, rules: Withholding, longest: int, withheld: Counter[str]
) -> dict[str, Any]:
    text = rules.shown(turn.text, withheld)
    if len(text) > longest:
        gone = len(text) - longest
        text = (
            f"{text[: longest // 2]} [… {gone} characters are not shown …] {text[-longest // 2 :]}"
        )
    message: dict[str, Any] = {
        "n": number,
        "from": rules.shown(turn.author_name, withheld),
        "me": turn.from_me,
        "at": turn.sent_at.strftime("%Y-%m-%d %H:%M"),
        "text": text,
    }
    if turn.is_bot:
        message["bot"] = True
    if turn.attachments:
        message["files"] = [rules.shown(name, withheld) for name in turn.attachments[:10]]
    return message
