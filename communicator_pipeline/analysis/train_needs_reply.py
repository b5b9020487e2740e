"""Trains `needs_reply_model.npz` and prints the F1 of a five-fold cross-validation.

    python -m communicator_pipeline.analysis.train_needs_reply --data needs-reply-train.tsv

The data: one message per line, `1` or `0`, a tab, the text (ParakweetLabs EmailIntentDataSet,
Apache-2.0). Belongs here: training, with scikit-learn. Does not belong here: inference.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold

from communicator_pipeline.analysis.ask_model import MODEL, AskModel, ngrams
from communicator_pipeline.analysis.tokens import LINK, tokens

SEED = 7
FEWEST = 2  # messages an n-gram must occur in
C = 30.0  # inverse regularisation; 10..60 give the same F1 to 0.3 points


def read(path: Path) -> tuple[list[list[str]], np.ndarray]:
    """Tokens and labels of every line."""
    messages, labels = [], []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        label, _, text = line.partition("\t")
        messages.append(tokens(text.replace("$LINK", LINK)))
        labels.append(int(label))
    return messages, np.array(labels)


def fit(messages: Sequence[Sequence[str]], labels: np.ndarray) -> tuple[AskModel, float]:
    """The model in int8 precision, and the size of a step."""
    from scipy.sparse import csr_matrix

    listed = [ngrams(m[:120]) for m in messages]
    counts = Counter(n for found in listed for n in found)
    vocabulary = {n: i for i, n in enumerate(sorted(n for n in counts if counts[n] >= FEWEST))}
    rows, columns, values = [], [], []
    for row, found in enumerate(listed):
        known = [vocabulary[n] for n in found if n in vocabulary]
        rows += [row] * len(known)
        columns += known
        values += [1 / max(len(known), 1) ** 0.5] * len(known)
    matrix = csr_matrix((values, (rows, columns)), shape=(len(messages), len(vocabulary)))
    model = LogisticRegression(C=C, max_iter=3000).fit(matrix, labels)
    step = float(np.abs(model.coef_).max() / 127)
    rounded = np.round(model.coef_[0] / step) * step
    weights = {n: float(rounded[i]) for n, i in vocabulary.items() if rounded[i]}
    return AskModel(weights, float(model.intercept_[0])), step


def cross_validate(messages: Sequence[Sequence[str]], labels: np.ndarray) -> list[float]:
    """F1 of each of five folds, in percent, at probability 0.5; prints precision and recall."""
    scores = []
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    for fold, (train, test) in enumerate(folds.split(labels, labels), 1):
        model, _ = fit([messages[i] for i in train], labels[train])
        said = np.array([model.probability(messages[i]) > 0.5 for i in test])
        scores.append(100 * f1_score(labels[test], said))
        print(
            f"fold {fold}: F1 {scores[-1]:.1f}"
            f"  precision {100 * precision_score(labels[test], said):.1f}"
            f"  recall {100 * recall_score(labels[test], said):.1f}"
        )
    return scores


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=MODEL)
    options = arguments.parse_args()
    messages, labels = read(options.data)
    scores = cross_validate(messages, labels)
    print(f"5-fold F1 {np.mean(scores):.1f} ± {np.std(scores):.1f} on {len(labels)} messages")
    model, step = fit(messages, labels)
    listed = sorted(model.weights)
    np.savez_compressed(
        options.out,
        ngrams=np.frombuffer("\n".join(listed).encode(), np.uint8),
        weights=np.array([round(model.weights[n] / step) for n in listed], np.int8),
        step=np.float32(step),
        bias=np.float32(model.bias),
    )
    print(f"{len(listed)} n-grams, {options.out.stat().st_size} bytes in {options.out}")


if __name__ == "__main__":
    main()
