"""What was used costs what the price list says."""

from __future__ import annotations

import pytest

from communicator_pipeline.storage.cloudflare_prices import (
    PRICES,
    billed,
    list_price,
    priced,
)
from communicator_pipeline.storage.metering import Used

DAY = "2026-11-03"


def test_the_examples_of_cloudflares_pages() -> None:
    """https://developers.cloudflare.com/queues/platform/pricing/ and r2/pricing/, read 2026-11."""
    (queues,) = billed([Used(DAY, "", "queues", "operations", 90_000_000)])
    assert queues.usd == pytest.approx(35.60)
    (hosting,) = billed([Used(DAY, "", "r2", "class b", 300_000_000)])
    assert hosting.usd == pytest.approx(104.40)
    (stored,) = billed([Used(DAY, "", "r2", "GB-months", 1_000)])
    assert stored.usd == pytest.approx(14.85)
    (requests,) = billed([Used(DAY, "", "workers", "requests", 15_000_000)])
    assert requests.usd == pytest.approx(1.50)


@pytest.mark.parametrize(
    ("service", "what", "count", "usd"),
    [
        ("d1", "rows read", 1_000_000, 0.001),
        ("d1", "rows written", 1_000_000, 1.0),
        ("d1", "GB-months", 2, 1.5),
        ("r2", "class a", 1_000_000, 4.5),
        ("r2", "class b", 1_000_000, 0.36),
        ("kv", "reads", 1_000_000, 0.5),
        ("kv", "writes", 1_000_000, 5.0),
        ("queues", "operations", 1_000_000, 0.4),
        ("workers ai", "neurons", 1_000, 0.011),
        ("r2", "bytes down", 10**12, 0.0),
        ("api", "calls", 10**6, 0.0),
    ],
)
def test_list_prices(service: str, what: str, count: float, usd: float) -> None:
    assert list_price(service, what, count) == pytest.approx(usd)


def test_each_price_names_its_page() -> None:
    assert all(p.source.startswith("https://developers.cloudflare.com/") for p in PRICES)
    assert len({(p.service, p.what) for p in PRICES}) == len(PRICES)


def test_what_is_free_is_free_once_for_everybody_and_anew_each_month() -> None:
    used = [
        Used("2026-11-01", "ana", "r2", "class a", 800_000),
        Used("2026-11-30", "ben", "r2", "class a", 700_000),
        Used("2026-12-01", "ben", "r2", "class a", 900_000),
    ]
    assert [row.usd for row in priced(used)] == pytest.approx([3.6, 3.15, 4.05])
    november, december = billed(used)
    assert (november.count, november.free) == (1_500_000, 1_000_000)
    assert november.usd == pytest.approx(2.25)
    assert november.list_usd == pytest.approx(6.75)
    assert december.usd == 0.0


def test_neurons_are_free_by_the_day() -> None:
    used = [
        Used("2026-11-01", "ana", "workers ai", "neurons", 4_000),
        Used("2026-11-01", "ben", "workers ai", "neurons", 16_000),
        Used("2026-11-02", "ana", "workers ai", "neurons", 9_000),
    ]
    (november,) = billed(used)
    assert november.free == 19_000
    assert november.usd == pytest.approx(0.11)
