"""What tokens cost: `genai-prices`, or what the operator says.

The prices are of the day on which the library was released: no price list is fetched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from communicator_pipeline.language_model.asking import Usage
from communicator_pipeline.language_model.configuration import ModelConfig

NEURON_USD = 0.011 / 1000
"""Workers AI: $0.011 for 1,000 neurons
(https://developers.cloudflare.com/workers-ai/platform/pricing/, read 2026-11)."""


def priced(config: ModelConfig, usage: Usage) -> Usage:
    """The usage with its cost in USD."""
    if usage.neurons:
        return replace(usage, cost_usd=usage.neurons * NEURON_USD)
    cost = usage.input_tokens * price_of(config, False) + usage.output_tokens * price_of(
        config, True
    )
    return replace(usage, cost_usd=cost)


def price_of(config: ModelConfig, output: bool) -> float:
    """USD for one token; 0 for a model whose price nobody knows, such as one's own server's."""
    given = config.output_price if output else config.input_price
    return given / 1_000_000 if given is not None else _known(config.model, config.provider)[output]


@cache
def _known(model: str, provider: str) -> tuple[float, float]:
    from genai_prices import Usage as Tokens  # a quarter of a second, and only for who asks
    from genai_prices import calc_price

    try:
        found = [
            float(calc_price(tokens, model_ref=model, provider_id=provider or None).total_price)
            for tokens in (Tokens(input_tokens=1_000_000), Tokens(output_tokens=1_000_000))
        ]
    except LookupError:
        return 0.0, 0.0
    return found[0] / 1_000_000, found[1] / 1_000_000
