"""Makes `language_ngrams.npz` from the language profiles of the `langdetect` package.

    python -m communicator_pipeline.analysis.train_language --profiles langdetect/profiles

Source: langdetect 1.0.9 (Apache-2.0), n-gram counts of Wikipedia abstracts by Nakatani Shuyo.
Belongs here: the making of the table. Does not belong here: its use (`language.py`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

LANGUAGES = (
    "en", "de", "es", "fr", "ru", "uk", "it", "pt", "nl", "pl", "tr", "sv", "da", "fi", "cs",
    "ro", "hu", "id", "vi", "bg", "ar", "fa",
)  # fmt: skip
PER_LANGUAGE = 1_500
FLOOR = 2e-6  # share of an n-gram that a profile does not list; profiles stop near 1e-6..1e-5


def shares(profile: Path) -> dict[str, float]:
    """Each n-gram's share among the n-grams of its length, case folded together."""
    content = json.loads(profile.read_text("utf-8"))
    found: dict[str, float] = {}
    for ngram, count in content["freq"].items():
        if len(ngram) in (2, 3):
            key = ngram.lower()
            found[key] = found.get(key, 0.0) + count / content["n_words"][len(ngram) - 1]
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--profiles", type=Path, required=True)
    arguments.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("language_ngrams.npz")
    )
    options = arguments.parse_args()
    profiles = {name: shares(options.profiles / name) for name in LANGUAGES}
    kept: set[str] = set()
    for profile in profiles.values():
        kept |= set(sorted(profile, key=lambda n: (-profile[n], n))[:PER_LANGUAGE])
    ngrams = sorted(n for n in kept if "\n" not in n)
    share = np.array([[profiles[name].get(n, 0.0) for name in LANGUAGES] for n in ngrams])
    logs = np.log(share + FLOOR)
    # Relative to the best language, so that the table fits int8 in steps of 1/16 nat.
    points = np.clip(np.round(16 * (logs - logs.max(axis=1, keepdims=True))), -127, 0)
    np.savez_compressed(
        options.out,
        ngrams=np.frombuffer("\n".join(ngrams).encode(), np.uint8),
        languages=np.frombuffer(" ".join(LANGUAGES).encode(), np.uint8),
        points=points.astype(np.int8),
        unseen=np.int8(0),
    )
    print(f"{len(ngrams)} n-grams, {len(LANGUAGES)} languages, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
