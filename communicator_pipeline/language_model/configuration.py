"""Which models an installation asks, and how.

Belongs here: the configuration's shape, reading and keeping it, its key sealed. Does not belong
here: what a user sets for themselves (`user_settings.py`).
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.settings import Settings

SETTING = "language_model"

KEY_VARIABLE = "COMMUNICATOR_MODEL_KEY"
"""A key from the environment, for installations that keep their secrets there."""

CLOUDFLARE_API = "https://api.cloudflare.com/client/v4"

_Price = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class ModelConfig(BaseModel):
    """One model. Times are seconds, prices USD for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai", "workers_ai"]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    base_url: str = ""
    """Where the server is. Workers AI: empty for Cloudflare's API, or an AI Gateway's address."""

    account_id: str = ""
    """Cloudflare's account, where there is no `base_url`."""

    json_mode: Literal["schema", "object", "prompt"] = "schema"
    """How the server is told the shape: a JSON schema; "a JSON object", with the schema in the
    prompt; or in the prompt alone."""

    sealed_key: str = ""
    timeout: Annotated[float, Field(gt=0, le=600)] = 60.0
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 300
    """Workers AI: text generation 300 a minute
    (https://developers.cloudflare.com/workers-ai/platform/limits/, read 2026-11)."""

    at_once: Annotated[int, Field(ge=1, le=1_000)] = 8
    context_characters: Annotated[int, Field(ge=2_000, le=10_000_000)] = 24_000
    """How much of a conversation one question holds before its older part is summarised."""

    output_tokens: Annotated[int, Field(ge=64, le=100_000)] = 1_500
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    input_price: _Price | None = None
    output_price: _Price | None = None
    """None: as `genai-prices` knows it, nothing if it does not."""

    @model_validator(mode="after")
    def _reachable(self) -> ModelConfig:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("base_url begins with https:// or http://")
        if self.kind == "openai" and not self.base_url:
            raise ValueError("an OpenAI-compatible server needs its base_url")
        if self.kind == "workers_ai" and not (self.base_url or self.account_id):
            raise ValueError("Workers AI needs account_id, or the base_url of an AI Gateway")
        return self

    @property
    def endpoint(self) -> str:
        """What limits are counted for: one model at one server."""
        where = self.base_url or f"{CLOUDFLARE_API}/accounts/{self.account_id}"
        return f"{where.rstrip('/')} {self.model}"

    @property
    def provider(self) -> str:
        """Who charges for it, as `genai-prices` spells them; "" when that is not known."""
        return "cloudflare" if self.kind == "workers_ai" or "@cf/" in self.model else ""


class ModelsConfig(BaseModel):
    """The models of an installation: the second is asked when the first cannot answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: ModelConfig
    second: ModelConfig | None = None


class BadConfiguration(ValueError):
    """The configuration is not one; the message says what is wrong with it."""


def read_configuration(stores: Stores) -> ModelsConfig | None:
    """What is configured; None: the offline analyser does everything."""
    kept = Settings(stores.database, None).get(SETTING)
    return None if kept is None else ModelsConfig.model_validate(kept)


def configured(values: dict[str, Any], key: str, stores: Stores) -> ModelConfig:
    """A configuration out of what somebody gave, its key sealed; raises `BadConfiguration`."""
    try:
        sealed = stores.keys.seal({"key": key}) if key else ""
        return ModelConfig.model_validate({**values, "sealed_key": sealed})
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_input=False)
        )
        raise BadConfiguration(f"this is no configuration of a model: {found}") from None


def keep_configuration(stores: Stores, models: ModelsConfig | None) -> None:
    """From now on these are asked; None: no model is."""
    settings = Settings(stores.database, None)
    settings.set(SETTING, None if models is None else orjson.loads(models.model_dump_json()))


def key_of(stores: Stores, config: ModelConfig) -> str:
    """The model's key; "" where none is needed. Raises `KeyMissing`."""
    if config.sealed_key:
        return stores.keys.open(config.sealed_key)["key"]
    return os.environ.get(KEY_VARIABLE, "")
