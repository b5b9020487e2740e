"""Learns the default linker from labelled chat and writes `linker.npz`.

    python -m communicator_pipeline.grouping.train \\
        --train irc-train.jsonl.gz --dev irc-dev.jsonl.gz --out linker.npz

Belongs here: reading labelled chat, making examples, the settings that were chosen, scoring a
labelled file. Does not belong here: the learning algorithm (`boosting.py`), the features.

The data is #ubuntu of the irc-disentanglement corpus (Kummerfeld et al. 2019, "A Large-Scale
Corpus for Conversation Disentanglement", CC BY 4.0, github.com/jkkummerfeld/irc-disentanglement)
as one JSON object a line: stream, idx (line number in the stream), ts, user, text, system, conv
(null: context that nobody labelled), parents (line numbers; a line that is its own parent starts
a conversation). Only numpy is needed, SciPy for one score. The seed is fixed: the same data gives
the same file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from communicator_pipeline.grouping.boosting import Examples, Settings, boost
from communicator_pipeline.grouping.features import FEATURES, pairs
from communicator_pipeline.grouping.linker import (
    CALLING,
    CloseLinker,
    GapLinker,
    KindLinker,
    LearntLinker,
    Linker,
    RuleLinker,
)
from communicator_pipeline.grouping.links import flow_of, group
from communicator_pipeline.grouping.restyle import Line, restyled, spread
from communicator_pipeline.grouping.scores import Agreement, agreement
from communicator_pipeline.grouping.trees import ObliviousTrees, save

SEED: Final = 20190704
RESTYLED_PER_STREAM: Final = 2
"""Two restyled chats a stream hold about as many messages as the streams' labelled parts twice."""


@dataclass(slots=True, frozen=True)
class Recipe:
    """How an ensemble is learnt: weights of the kinds of examples, then the boosting.

    `root_step` is added to the score of a root: the most probable parent of each message for
    itself gives somewhat more conversations than there are.
    """

    logged: float
    timed: float
    restyled: float
    settings: Settings
    root_step: float


RECIPES: Final = {
    "calling": Recipe(
        logged=1.0,
        timed=0.4,
        restyled=0.25,
        settings=Settings(trees=400, rate=0.1, row_share=0.35, smoothing=8.0),
        root_step=-0.2,
    ),
    "quiet": Recipe(
        logged=0.5,
        timed=0.5,
        restyled=1.0,
        settings=Settings(trees=300, rate=0.12, row_share=0.3, smoothing=20.0),
        root_step=0.0,
    ),
}
"""Chosen on the dev split. The calling style weighs the logs as they are, the quiet one has
little but the restyled chats to learn from."""


def read_labelled(path: Path) -> dict[str, list[Line]]:
    """Labelled lines by stream, in order."""
    streams: dict[str, list[Line]] = defaultdict(list)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in map(json.loads, file):
            at = datetime.fromisoformat(row["ts"]).replace(tzinfo=UTC)
            streams[row["stream"]].append(
                Line(
                    row["stream"],
                    row["idx"],
                    at.timestamp(),
                    row["user"],
                    row["text"],
                    row["system"],
                    row["conv"],
                    tuple(row["parents"]),
                )
            )
    return dict(streams)


def message_id(stream: str, index: int) -> str:
    """Padded, so that lines of the same minute sort as they were written."""
    return f"{stream}:{index:07d}"


def messages_of(lines: list[Line], kind: str = "channel") -> pd.DataFrame:
    """Labelled lines as `group` wants its messages."""
    return pd.DataFrame(
        {
            "message_id": [message_id(x.stream, x.index) for x in lines],
            "channel_id": [x.stream for x in lines],
            "channel_kind": kind,
            "sent_at": pd.to_datetime([round(x.seconds * 1e6) for x in lines], unit="us", utc=True),
            "author_id": [x.author for x in lines],
            "author_name": [x.author for x in lines],
            "kind": ["system" if x.system else "message" for x in lines],
            "text": [x.text for x in lines],
            "thread_id": pd.Series([None] * len(lines), dtype="str"),
            "reply_to": pd.Series([None] * len(lines), dtype="str"),
            "mentions": [list(x.mentions) for x in lines],
        }
    )


def examples_of(lines: list[Line], weight: float) -> Examples:
    """Labelled messages with their candidates, as far as a true parent is among these."""
    flow, ids = flow_of(messages_of(lines))
    at = {id_: row for row, id_ in enumerate(ids)}
    parents = {
        at[message_id(x.stream, x.index)]: [at.get(message_id(x.stream, p), -1) for p in x.parents]
        for x in lines
        if x.talk is not None and not x.system
    }
    rows = np.array(sorted(parents), np.int64)
    columns, theres, rights = [], [], []
    for part, found in pairs(flow, rows):
        there = found.distance >= 0
        candidate = np.where(there, part[:, None] - found.distance, -2)
        right = np.zeros_like(there)
        for line, row in enumerate(part.tolist()):
            right[line] = np.isin(candidate[line], parents[row])
        usable = right.any(axis=1)
        columns.append(found.features.reshape(len(FEATURES), *there.shape)[:, usable])
        theres.append(there[usable])
        rights.append(right[usable])
    there = np.concatenate(theres)
    return Examples(
        np.concatenate(columns, axis=1).reshape(len(FEATURES), -1),
        there,
        np.concatenate(rights),
        np.full(len(there), weight),
    )


def together(parts: list[Examples]) -> Examples:
    return Examples(
        np.concatenate([x.columns for x in parts], axis=1),
        np.concatenate([x.there for x in parts]),
        np.concatenate([x.right for x in parts]),
        np.concatenate([x.weight for x in parts]),
    )


def restyled_streams(streams: dict[str, list[Line]], count: int, seed: int) -> list[Line]:
    random = np.random.default_rng(seed)
    return [
        line
        for stream, lines in streams.items()
        for number in range(count)
        for line in restyled(lines, f"{stream}-restyled{number}", random)
    ]


def training_examples(streams: dict[str, list[Line]]) -> dict[str, Examples]:
    """As logged, timed (with seconds where the log has only minutes) and restyled."""
    random = np.random.default_rng(SEED)
    lines = {
        "logged": [line for lines in streams.values() for line in lines],
        "timed": [line for lines in streams.values() for line in spread(lines, random)],
        "restyled": restyled_streams(streams, RESTYLED_PER_STREAM, SEED),
    }
    return {kind: examples_of(chosen, 1.0) for kind, chosen in lines.items()}


def learn(kinds: dict[str, Examples], style: str, recipe: Recipe) -> ObliviousTrees:
    """The ensemble of one style."""
    weights = {"logged": recipe.logged, "timed": recipe.timed, "restyled": recipe.restyled}
    weighted = [replace(part, weight=part.weight * weights[kind]) for kind, part in kinds.items()]
    examples = by_style(together(weighted))[style]
    return boost(FEATURES, examples, recipe.settings).with_step("is_root", recipe.root_step)


def by_style(examples: Examples) -> dict[str, Examples]:
    """Examples apart by the style that the linker tells by the window.

    Without its exception for young channels: streams are cut out of the middle of a talk.
    """
    calls = examples.columns[FEATURES.index("calls")].reshape(examples.there.shape)[:, 0]
    calling = calls >= CALLING
    return {"calling": _only(examples, calling), "quiet": _only(examples, ~calling)}


def _only(examples: Examples, rows: npt.NDArray[np.bool_]) -> Examples:
    columns = examples.columns.reshape(len(FEATURES), *examples.there.shape)[:, rows]
    return Examples(
        columns.reshape(len(FEATURES), -1),
        examples.there[rows],
        examples.right[rows],
        examples.weight[rows],
    )


def score(lines: list[Line], linker: Linker | None = None, kind: str = "channel") -> Agreement:
    """How well a linker (the default one if none is named) groups labelled lines."""
    membership, _ = group(messages_of(lines, kind), None, {}, linker)
    ids = membership["message_id"].tolist()
    found = dict(zip(ids, membership["conversation_id"], strict=True))
    parent = membership["parent_message_id"].fillna(membership["message_id"]).tolist()
    labelled = {message_id(x.stream, x.index): x for x in lines if x.talk is not None}
    gold_links = {(id_, message_id(x.stream, p)) for id_, x in labelled.items() for p in x.parents}
    return agreement(
        {id_: (x.stream, x.talk) for id_, x in labelled.items()},
        found,
        gold_links,
        {(id_, p) for id_, p in zip(ids, parent, strict=True) if id_ in labelled},
    )


def score_file(path: Path, linker: Linker | None = None) -> Agreement:
    """Scores a labelled file in the format above."""
    return score([x for lines in read_labelled(path).values() for x in lines], linker)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the default linker from labelled chat.")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    began = time.monotonic()
    dev = read_labelled(options.dev)
    sets = {
        "as logged": [x for lines in dev.values() for x in lines],
        "restyled": restyled_streams(dev, 2, SEED),
    }

    def report(name: str, linker: Linker) -> None:
        for title, lines in sets.items():
            print(f"{time.monotonic() - began:5.0f} s  {name:10} {title:9} {score(lines, linker)}")

    gap = GapLinker()
    report("gap", KindLinker(gap))
    report("plain rule", KindLinker(RuleLinker(paces=0)))
    report("rule", KindLinker(RuleLinker()))
    kinds = training_examples(read_labelled(options.train))
    ensembles = {}
    for style, recipe in RECIPES.items():
        ensembles[style] = learn(kinds, style, recipe)
        print(f"{time.monotonic() - began:5.0f} s  {style}: {len(ensembles[style].leaf)} trees")
    learnt_linker = LearntLinker(**ensembles)
    report("learnt", KindLinker(learnt_linker, CloseLinker(learnt_linker)))
    save(options.out, ensembles)


if __name__ == "__main__":
    main()
