"""How an analysis or a draft came to be: by which model and prompt, at what cost, or why by none.

Belongs here: the value, and its columns in the lake. Does not belong here: what came to be
(`analysis/`, `drafting/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from communicator_pipeline.language_model.asking import NoAnswer, Usage


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made something, and with what."""

    model: str
    prompt: str = ""  # its version, such as "analyse/1"; "" where no model was asked
    stood_in: str = ""  # why the offline way stood in for a model; "" where it did not
    passes: bool = False  # whether it is worth trying again later
    withheld: tuple[str, ...] = ()  # kinds of what the model was not shown, counted
    usage: Usage = field(default_factory=Usage)  # what the answer took when it was given

    def standing_in(self, failure: NoAnswer) -> Provenance:
        """The same, in the place of a model that gave no answer."""
        return replace(
            self, stood_in=str(failure), passes=failure.trouble.passes, usage=failure.usage
        )

    def columns(self) -> dict[str, Any]:
        """A row's part that says so: `COLUMNS` without `input_digest`."""
        return {
            "model": self.model,
            "prompt": self.prompt,
            "stood_in": self.stood_in,
            "withheld": list(self.withheld),
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
            "cost_usd": self.usage.cost_usd,
        }


COLUMNS: list[tuple[str, pa.DataType]] = [
    ("model", pa.string()),
    ("input_digest", pa.string()),  # of all that it rests on: equal, not made again
    ("prompt", pa.string()),
    ("stood_in", pa.string()),
    ("withheld", pa.list_(pa.string())),
    ("input_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
    ("cost_usd", pa.float64()),
]
"""How the lake keeps it, at the end of a row; see `Provenance` for what each says."""

_BY_NO_MODEL = {name: value for name, value in Provenance("").columns().items() if name != "model"}


def with_provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all of the columns: rows that were written before they were have none."""
    return {**_BY_NO_MODEL, **row}


STOOD_IN = "stood-in"
"""The end of an input digest that will not be met again: the next run tries the model anew."""


def usage_of(row: Mapping[str, Any]) -> Usage:
    """What a row's answer took."""
    return Usage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=row["cost_usd"],
    )


def in_numbers(usage: Usage) -> dict[str, int]:
    """What models took, for a partition's metadata; nothing where none was asked. Dagster plots
    numbers over time; a whole number of millionths of a dollar is one."""
    found = {
        "model tokens in": usage.input_tokens,
        "model tokens out": usage.output_tokens,
        "model cost in millionths of a dollar": round(usage.cost_usd * 1e6),
    }
    return {name: value for name, value in found.items() if value}
