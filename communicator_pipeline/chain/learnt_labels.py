"""What was learnt of an account's relabels, as the lake keeps it.

Belongs here: the object, its bytes, reading it. Does not belong here: making it
(`label_models.py`), what it does (`analysis/label_model.py`).
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field

import numpy as np
import orjson

from communicator_pipeline.analysis.label_model import LabelModel, from_arrays, to_arrays, to_npz
from communicator_pipeline.analysis.train_label_model import Scores
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.objects import ABSENT


@dataclass(frozen=True)
class Kept:
    """The model in use, and what it was worth on conversations held out."""

    model: LabelModel = field(default_factory=LabelModel)
    category: Scores = field(default_factory=Scores)
    priority: Scores = field(default_factory=Scores)
    taught_by: str = ""  # digest of all that was learnt from
    announced: bool = True  # the days that it changes were marked after it could be read


def model_key(account: str) -> str:
    """Where the lake keeps what was learnt of an account."""
    return f"lake/label_models/{account}/model.npz"


def stored(stores: Stores, account: str) -> tuple[Kept, str]:
    """What the lake has, and its etag; without anything, what changes nothing and `ABSENT`."""
    try:
        content, etag = stores.lake.objects.get(model_key(account))
    except FileNotFoundError:
        return Kept(), ABSENT
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        told = orjson.loads(bytes(arrays["told"]))
        return (
            Kept(
                from_arrays(arrays),
                Scores(**told["category"]),
                Scores(**told["priority"]),
                told["taught_by"],
                told["announced"],
            ),
            etag,
        )


def to_bytes(kept: Kept) -> bytes:
    """What `stored` reads; equal bytes for what is equal."""
    told = {
        "category": asdict(kept.category),
        "priority": asdict(kept.priority),
        "taught_by": kept.taught_by,
        "announced": kept.announced,
    }
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return to_npz({**to_arrays(kept.model), "told": np.frombuffer(text, np.uint8)})
