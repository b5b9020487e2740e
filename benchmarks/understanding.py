"""How well conversations are told apart and sorted, on the demo corpus, by style of chat.

Grouping: the learnt linker beside the plain time gap and the plain rule, against the demo's gold
(lines of the platform itself left out). Triage: category and needs-reply of the conversations as
the whole chain makes them, its own grouping's mistakes included. The demo is small and was
written by hand: it shows styles, it proves nothing. `--irc` scores a labelled log.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from benchmarks.chain import STAGES
from benchmarks.measure import table
from communicator_pipeline.chain import analyses, raw_messages
from communicator_pipeline.chain.conversations import readable_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.demo import gold, write_exports
from communicator_pipeline.grouping import (
    GapLinker,
    KindLinker,
    Linker,
    RuleLinker,
    default_linker,
    group,
)
from communicator_pipeline.grouping.flow import MINUTE
from communicator_pipeline.grouping.scores import agreement
from communicator_pipeline.grouping.train import read_labelled, score
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user, directory
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months

SYSTEM = "system"
Key = tuple[str, str]  # account, message id


def linkers() -> dict[str, Linker]:
    """From the plainest to what is used."""
    plain = GapLinker(paces=0, shortest=15 * MINUTE, longest=15 * MINUTE)
    return {
        "gap of 15 minutes": KindLinker(plain, two=plain),
        "gap by pace": KindLinker(GapLinker()),
        "plain rule": KindLinker(RuleLinker(paces=0)),
        "default": default_linker(),
    }


def materialised(folder: Path) -> Stores:
    """The demo's accounts, imported and materialised."""
    stores = open_local(folder / "home")
    for export in write_exports(folder / "exports"):
        add_user(stores.database, export.user, export.user)
        accounts = Accounts(stores.database, export.user)
        accounts.add(export.account, export.platform, export.account)
        accounts.set_me(export.account, [export.me])
        import_export(open_export(export.path), export.account, stores.database, stores.lake)
        months = landed_months(stores.lake, export.account)
        scope = Scope(tuple(AccountMonth(export.account, month) for month in months))
        for stage in STAGES.values():
            for partition in scope.partitions:
                stage.materialise(stores, partition, scope)
    return stores


def print_grouping(stores: Stores, truth: pd.DataFrame) -> None:
    """A row per style and linker: VI, one-to-one, exact F, pairwise F1."""
    spoken = truth[truth["style"] != SYSTEM]
    found = {name: _grouped(stores, linker) for name, linker in linkers().items()}
    rows = []
    for style, of_style in [*spoken.groupby("style"), ("all", spoken)]:
        said: dict[Key, Hashable] = {
            (row.account, row.message_id): (row.account, row.conversation)
            for row in of_style.itertuples()
        }
        for name, predicted in found.items():
            known = {key: talk for key, talk in said.items() if key in predicted}
            scores = agreement(known, predicted)
            rows.append(
                [
                    f"{style} ({len(known)})" if name == next(iter(found)) else "",
                    name,
                    f"{scores.variation:.1f}",
                    f"{scores.one_to_one:.1f}",
                    f"{scores.exact:.1f}",
                    f"{pairwise_f1(known, predicted):.1f}",
                ]
            )
    print("Grouping, by style (messages)")
    table(["style", "linker", "VI", "1-1", "exact F", "pairwise F"], rows)


def pairwise_f1(truth: Mapping[Key, Hashable], predicted: Mapping[Key, Hashable]) -> float:
    """F1 of "these two messages belong together", in percent."""

    def pairs(counts: Counter[Any]) -> int:
        return sum(n * (n - 1) // 2 for n in counts.values())

    both = pairs(Counter((truth[key], predicted[key]) for key in truth))
    either = pairs(Counter(truth.values())) + pairs(Counter(predicted[key] for key in truth))
    return 200 * both / either if either else 100.0


def _grouped(stores: Stores, linker: Linker) -> dict[Key, Hashable]:
    conversation: dict[Key, Hashable] = {}
    for account in gold()["account"].unique():
        tables = []
        for month in stores.lake.months(raw_messages.ASSET, account):
            partition = AccountMonth(account, month)
            days = stores.lake.manifest(raw_messages.ASSET, partition).days.values()
            tables += [stores.lake.read_day(raw_messages.ASSET, partition, day) for day in days]
        messages = readable_messages(pa.concat_tables(tables), directory(stores.database, account))
        membership, _ = group(messages, None, {}, linker)
        for message, found in zip(
            membership["message_id"], membership["conversation_id"], strict=True
        ):
            conversation[account, message] = (account, found)
    return conversation


def print_triage(stores: Stores, truth: pd.DataFrame) -> None:
    """A row per style: how many conversations got the person's category and needs-reply."""
    newest: dict[Key, dict[str, Any]] = {}
    for account in truth["account"].unique():
        for month in stores.lake.months(analyses.ASSET, account):
            partition = AccountMonth(account, month)
            for day in stores.lake.manifest(analyses.ASSET, partition).days.values():
                for row in stores.lake.read_day(analyses.ASSET, partition, day).to_pylist():
                    newest[account, row["conversation_id"]] = row
    grouped = _grouped(stores, default_linker())
    right: dict[str, Counter[str]] = defaultdict(Counter)
    spoken = truth[truth["style"] != SYSTEM]
    for (account, _), of_talk in spoken.groupby(["account", "conversation"]):
        keys = [(account, message) for message in of_talk["message_id"]]
        # Judged by the found conversation that has most of its messages, the newest at a tie.
        places = Counter(grouped[key] for key in reversed(keys) if key in grouped)
        analysis = next((newest[p] for p, _ in places.most_common() if p in newest), None)
        if analysis is None:
            continue
        needs, told = bool(of_talk["needs_reply"].iloc[0]), analysis["needs_reply"]
        for style in (of_talk["style"].iloc[0], "all"):
            counts = right[style]
            counts["talks"] += 1
            counts["category"] += analysis["category"] == of_talk["category"].iloc[0]
            counts["true"] += needs and told
            counts["needed"] += needs
            counts["told"] += told
    rows = []
    for style in sorted(right, key=lambda name: (name == "all", name)):
        counts = right[style]
        rows.append(
            [
                f"{style} ({counts['talks']})",
                f"{100 * counts['category'] / counts['talks']:.1f}",
                str(counts["needed"]),
                _percent(counts["true"], counts["told"]),
                _percent(counts["true"], counts["needed"]),
                _percent(2 * counts["true"], counts["told"] + counts["needed"]),
            ]
        )
    print("\nTriage, by style (conversations)")
    headings = "style|category right|need a reply|precision|recall|F1".split("|")
    table(headings, rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def print_irc(path: Path) -> None:
    """The linkers on a labelled log (the format is in grouping/train.py)."""
    lines = [line for stream in read_labelled(path).values() for line in stream]
    print(f"\n{path.name}, {len(lines):,} lines")
    rows = []
    for name, linker in linkers().items():
        scores = score(lines, linker)
        rows.append(
            [
                name,
                f"{scores.variation:.1f}",
                f"{scores.one_to_one:.1f}",
                f"{scores.exact:.1f}",
                f"{scores.link:.1f}",
            ]
        )
    table(["linker", "VI", "1-1", "exact F", "link F"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.understanding", description=__doc__)
    parser.add_argument("--irc", type=Path, help="a labelled log, JSON lines, may be .gz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        stores = materialised(Path(temporary))
        truth = gold()
        print_grouping(stores, truth)
        print_triage(stores, truth)
    if options.irc:
        print_irc(options.irc)


if __name__ == "__main__":
    main()
