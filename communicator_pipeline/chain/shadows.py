"""The comparisons that there are: what each compares, beginning, listing and forgetting them.

Belongs here: the definition of a comparison, its place in the lake, the variant it stands for. Does
not belong here: making what is compared (`comparison.py`), the diff (`comparing/`).

    lake/comparison@NAME/ACCOUNT/definition.json   what is compared; written first, goes last
    lake/comparison@NAME/ACCOUNT/report.md         the figures in words
    lake/ASSET@NAME/ACCOUNT/MONTH/…                the side partitions
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from communicator_pipeline.chain import analyses, drafted_replies
from communicator_pipeline.chain.variants import Variant
from communicator_pipeline.language_model.configuration import (
    BadConfiguration,
    ModelConfig,
    ModelsConfig,
    configured,
    read_configuration,
)
from communicator_pipeline.prompts import SHIPPED, current, load
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.objects import ABSENT, LostRace

PAIRS = "comparison"
"""The lake's asset with both ways side by side; the definition and the report stand beside it."""

ANSWERS = "answers_drafted_again"
"""The lake's asset with what people sent, and what the variant would have drafted."""

NAME_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?"


class NoSuchComparison(LookupError):
    """There is no comparison of that name; the message says which there are."""


class Shadow(BaseModel):
    """What is compared with the live way. Holds no key: those of the live models' servers are
    looked up when they are needed, others come from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    prompts: dict[str, str]  # purpose → version, of every purpose
    models: ModelsConfig | None = None  # None: those that are live
    memories: bool = True
    changes: str  # what differs from the live way, in words
    begun_at: str = ""  # UTC
    begun_by: str = ""

    def variant(self, stores: Stores) -> Variant:
        """The way to analyse and draft; raises `NoSuchPrompt`."""
        for purpose, version in self.prompts.items():
            load(purpose, version)
        models = None if self.models is None else _with_keys(stores, self.models)
        return Variant(self.name, tuple(sorted(self.prompts.items())), models, self.memories)

    def compares_the_same(self, other: Shadow) -> bool:
        told = {"changes", "begun_at", "begun_by"}
        return self.model_dump(exclude=told) == other.model_dump(exclude=told)


def shadow_of(
    stores: Stores,
    prompts: Sequence[str] = (),
    model: str = "",
    memories: bool = True,
    name: str = "",
) -> Shadow:
    """A comparison out of what somebody asked for; all that they did not name is as it is live
    now, and stays so when it is made again.

    `prompts`: such as `draft/2`. `model`: a file with a configuration in JSON, or the name of
    another model at the live one's server. Raises `NoSuchPrompt` and `ValueError`, in words.
    """
    chosen: dict[str, str] = {}
    for given in prompts:
        purpose, _, version = given.partition("/")
        if not version:
            raise ValueError(f"a prompt is a purpose and a version, such as draft/2, not {given!r}")
        if purpose in chosen:
            raise ValueError(f"{purpose} is named twice: compare one version at a time")
        chosen[purpose] = load(purpose, version).version
    models = models_of(stores, model) if model else None
    parts = [f"{purpose}/{version}" for purpose, version in sorted(chosen.items())]
    parts += [f"model {models.first.model}"] if models else []
    parts += [] if memories else ["no memories"]
    if not (parts or name):
        raise ValueError(
            "say what is to differ: --prompt, --model or --no-memories (nothing does, with --name: "
            "that shows what two runs of the same differ by)"
        )
    wanted = name or slugged(" ".join(parts))
    if not re.fullmatch(NAME_PATTERN, wanted):
        raise ValueError(
            f"a comparison's name is of small letters, digits and dashes, 60 at most: not {name!r}"
        )
    live = {purpose: current(stores.database, purpose).version for purpose in SHIPPED}
    return Shadow(
        name=wanted,
        prompts=live | chosen,
        models=models,
        memories=memories,
        changes=", ".join(parts) or "nothing differs",
    )


def slugged(text: str) -> str:
    """A text as a comparison's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-")


def models_of(stores: Stores, given: str) -> ModelsConfig:
    """The models of a file, or another one at the live model's server; raises
    `BadConfiguration`."""
    file = Path(given)
    if file.is_file():
        models = _read(stores, file)
    else:
        live = read_configuration(stores)
        if live is None:
            raise BadConfiguration(
                f"no model is set, so {given!r} cannot be another one at its server (and there is "
                "no such file): give a file with a configuration in JSON"
            )
        # A price that somebody gave is the live model's.
        other = {"model": given, "sealed_key": "", "input_price": None, "output_price": None}
        models = ModelsConfig(first=live.first.model_copy(update=other))
    for config in filter(None, (models.first, models.second)):
        if "@" in urlsplit(config.base_url).netloc or urlsplit(config.base_url).query:
            raise BadConfiguration(
                "the address of the model's server holds a name or a key, and what is compared is "
                "recorded: put the key into COMMUNICATOR_MODEL_KEY"
            )
    return models


def _read(stores: Stores, file: Path) -> ModelsConfig:
    try:
        found = orjson.loads(file.read_bytes())
    except ValueError as error:
        raise BadConfiguration(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadConfiguration(f"{file} should hold a JSON object with kind, model and base_url")
    given = found if "first" in found else {"first": found}
    unknown = sorted(set(given) - {"first", "second"})
    parts = {name: given.get(name) for name in ("first", "second")}
    if unknown or not all(isinstance(part, dict | None) for part in parts.values()):
        raise BadConfiguration(f"{file} should hold one model, or `first` and `second`, no more")
    configs = {name: configured(part, "", stores) for name, part in parts.items() if part}
    if "first" not in configs:
        raise BadConfiguration(f"{file} names no model")
    return ModelsConfig(**configs)


def _with_keys(stores: Stores, models: ModelsConfig) -> ModelsConfig:
    """The models with the keys that the live ones have for the same server."""
    live = read_configuration(stores)
    keys = {
        _server(config): config.sealed_key
        for config in (() if live is None else (live.second, live.first))
        if config is not None
    }

    def with_key(config: ModelConfig | None) -> ModelConfig | None:
        if config is None or _server(config) not in keys:
            return config
        return config.model_copy(update={"sealed_key": keys[_server(config)]})

    first = with_key(models.first)
    assert first is not None
    return ModelsConfig(first=first, second=with_key(models.second))


def _server(config: ModelConfig) -> tuple[str, str, str]:
    return config.kind, config.base_url.rstrip("/"), config.account_id


# --- in the lake -----------------------------------------------------------------------------


def begin(stores: Stores, account: str, shadow: Shadow, user_id: str) -> Shadow:
    """Keep what is compared before anything is made of it; returns what is kept. The same may be
    begun again, by two at once too. Raises `ValueError` if the name stands for something else."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = shadow.model_copy(update={"begun_at": now, "begun_by": user_id})
    content = orjson.dumps(told.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    try:
        stores.lake.objects.put(_definition_key(shadow.name, account), content, if_match=ABSENT)
    except LostRace:
        told = definition(stores, account, shadow.name)
        if not shadow.compares_the_same(told):
            raise ValueError(
                f"there is a comparison {shadow.name!r} already, of something else "
                f"({told.changes}): choose another one with --name, or "
                f"`communicator compare --forget {shadow.name}`"
            ) from None
    return told


def definition(stores: Stores, account: str, name: str) -> Shadow:
    """What a comparison compares; raises `NoSuchComparison`."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise NoSuchComparison(f"{name!r} is no comparison's name")
    try:
        content, _ = stores.lake.objects.get(_definition_key(name, account))
        return Shadow.model_validate_json(content)
    except FileNotFoundError:
        raise NoSuchComparison(f"there is no comparison {name!r} of {account}") from None
    except ValidationError as error:
        raise NoSuchComparison(
            f"the definition of {name!r} cannot be read ({error.error_count()} faults): "
            f"`communicator compare --forget {name}`"
        ) from None


def comparisons(stores: Stores, accounts: Sequence[str]) -> dict[str, dict[str, Shadow]]:
    """name → account → what is compared, of these accounts, by name."""
    prefix = f"lake/{PAIRS}@"
    found: dict[str, dict[str, Shadow]] = {}
    for info in stores.lake.objects.list(prefix):
        name, account, *rest = info.key.removeprefix(prefix).split("/")
        if rest == ["definition.json"] and account in accounts:
            try:
                found.setdefault(name, {})[account] = definition(stores, account, name)
            except NoSuchComparison:  # forgotten meanwhile, or broken: it can be forgotten still
                continue
    return dict(sorted(found.items()))


def forget(stores: Stores, account: str, name: str) -> int:
    """Delete all that a comparison made of an account; returns how many objects went. The
    definition goes last, so that whoever is killed can begin again."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise NoSuchComparison(f"{name!r} is no comparison's name")
    keys = [
        info.key
        for asset in (analyses.ASSET, drafted_replies.ASSET, ANSWERS, PAIRS)
        for info in stores.lake.objects.list(f"lake/{asset}@{name}/{account}/")
    ]
    last = _definition_key(name, account)
    for key in sorted(keys, key=lambda key: key == last):
        stores.lake.objects.delete(key)
    return len(keys)


def keep_report(stores: Stores, account: str, name: str, report: str) -> None:
    """Write the report of an account; one that says the same is not written again."""
    content, key = report.encode(), _report_key(name, account)
    try:
        held, _ = stores.lake.objects.get(key)
    except FileNotFoundError:
        held = b""
    if held != content:
        stores.lake.objects.put(key, content)


def report(stores: Stores, account: str, name: str) -> str:
    """The report of an account; raises `FileNotFoundError` while there is none."""
    return stores.lake.objects.get(_report_key(name, account))[0].decode()


def config_of(shadow: Shadow) -> Mapping[str, Any]:
    """What a run is told: the definition, without who began it, and without the nulls that
    Dagster's maps do not take."""
    return shadow.model_dump(mode="json", exclude={"begun_at", "begun_by"}, exclude_none=True)


def _definition_key(name: str, account: str) -> str:
    return f"lake/{PAIRS}@{name}/{account}/definition.json"


def _report_key(name: str, account: str) -> str:
    return f"lake/{PAIRS}@{name}/{account}/report.md"
