"""`label_models`: what an account's relabels teach the offline analyser."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from communicator_pipeline.analysis import OfflineAnalyser
from communicator_pipeline.analysis.label_model import Seen
from communicator_pipeline.analysis.train_label_model import FEWEST, VERSION, Example, train
from communicator_pipeline.chain.analyses import categories_of
from communicator_pipeline.chain.learnt_labels import Kept, model_key, stored, to_bytes
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.chain.variants import untrained_of
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.corrections import Label
from communicator_pipeline.storage.label_models import (
    days_since,
    lesson,
    newest_conversations,
    note_learnt,
)
from communicator_pipeline.storage.objects import LostRace
from communicator_pipeline.storage.work import WorkQueue

ASSET = "label_models"

SORTED_ANEW = "what was learnt from relabels changed"

SORTED_ANEW_FOR = timedelta(days=30)
"""How far back conversations are sorted and ranked anew when the model changes: nobody works
through an inbox that is older, and its rows follow when something else touches their day."""

MOST_LABELS = 1_000
"""Relabelled conversations that are learnt from, the newest: older ones speak of what was."""

MOST_LEFT = 300
"""Conversations that nobody corrected, the newest, that say which words stand everywhere."""

_MOST_TRIES = 100  # each lost race is somebody else's news: this many means a fault


@dataclass(frozen=True)
class LabelReport:
    """What an account's relabels taught."""

    account: str
    kept: Kept
    days_marked: tuple[str, ...] = ()  # to be sorted and ranked anew
    trained: bool = False  # False: what it would learn from is what it did


def materialise(stores: Stores, account: str, now: datetime | None = None) -> LabelReport:
    """Learn from the account's relabels if they, or the conversations that they are about, are
    not what they were, and have recent days analysed anew where that changes the model. Whoever
    was first meanwhile is heard: it is read again. Killed anywhere, it is still to be done; done
    twice, it is the same."""
    first = ((now or datetime.now(UTC)) - SORTED_ANEW_FOR).date().isoformat()
    queue = WorkQueue(stores.database)
    for _ in range(_MOST_TRIES):
        found = lesson(stores.database, account)  # before all that it stands for is read
        old, etag = stored(stores, account)
        if not found.newest:
            return LabelReport(account, old)  # nobody ever relabelled anything
        new = _learn(stores, account, found.labels, old)
        days: list[str] = []
        if new.model.digest != old.model.digest or not old.announced:
            # Before the model can be read: killed in between, the days are analysed as they were.
            days = days_since(stores.database, account, first)
            queue.mark(account, days, SORTED_ANEW)
        try:
            if new != old or days:
                etag = stores.lake.objects.put(
                    model_key(account), to_bytes(replace(new, announced=not days)), etag
                )
            if days:  # a run may have taken the days before the model was there
                queue.mark(account, days, SORTED_ANEW)
                stores.lake.objects.put(model_key(account), to_bytes(new), etag)
        except LostRace:
            continue
        if note_learnt(stores.database, account, found):
            return LabelReport(account, new, tuple(days), new.taught_by != old.taught_by)
    raise RuntimeError(f"{account}: lost {_MOST_TRIES} races for what its relabels teach")


def _learn(stores: Stores, account: str, labels: Mapping[str, Label], old: Kept) -> Kept:
    names = categories_of(stores.database, account)
    offline = untrained_of(stores, account)
    chosen = dict(list(labels.items())[:MOST_LABELS])  # the newest come first
    seen = _seen(stores, account, offline, chosen)
    examples = {
        conversation_id: Example(
            one,
            label.category if label.category in names else None,
            label.priority,
        )
        for conversation_id, one in sorted(seen.items())
        if (label := chosen[conversation_id])
    }
    what = f"{VERSION} {offline.version} {names!r} {sorted(examples.items())!r}"
    digest = hashlib.sha256(what.encode()).hexdigest()
    if digest == old.taught_by:
        return replace(old, announced=True)
    left: list[tuple[str, ...]] = []
    if len(examples) >= FEWEST:
        recent = newest_conversations(stores.database, account, MOST_LEFT + len(labels))
        unlabelled = [one for one in recent if one not in labels][:MOST_LEFT]
        others = _seen(stores, account, offline, unlabelled)
        left = [one.features for _, one in sorted(others.items())]
    trained = train(list(examples.values()), left, names)
    return Kept(trained.model, trained.category, trained.priority, digest)


def _seen(
    stores: Stores, account: str, offline: OfflineAnalyser, conversation_ids: Collection[str]
) -> dict[str, Seen]:
    """What the untrained analyser makes of conversations as they are now, without suspicious and
    deleted ones."""
    whole = Transcripts.of_conversations(stores, account, conversation_ids)
    found: dict[str, Seen] = {}
    for conversation_id in conversation_ids:
        transcript = whole.before(conversation_id, datetime.max.replace(tzinfo=UTC))
        seen = offline.seen(transcript) if transcript is not None else None
        if seen is not None:
            found[conversation_id] = seen
    return found
