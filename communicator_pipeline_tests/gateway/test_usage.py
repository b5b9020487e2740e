"""What models cost is shown to who pays, and the inbox says when they are not asked any more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from communicator_pipeline.language_model import keeping
from communicator_pipeline.language_model.asking import Usage
from communicator_pipeline.language_model.keeping import Spent
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.world import ACCOUNT, say
from communicator_pipeline_tests.gateway.api_world import api_of
from communicator_pipeline_tests.gateway.conftest import BOS_ACCOUNT, SignIn


@pytest.fixture
def paid(box: Stores) -> Stores:
    """ana spent 1.25 USD today, bo 7."""
    keeping.AnswersInDatabase(box.database).note(
        [],
        [
            Spent("ana", ACCOUNT, "analysis", "llama", Usage(3, 1_000, 200, 0.0, 1.0)),
            Spent("ana", ACCOUNT, "draft", "llama", Usage(1, 100, 50, 0.0, 0.25)),
            Spent("bo", BOS_ACCOUNT, "draft", "wombat-model", Usage(1, 1, 1, 0.0, 7.0)),
        ],
    )
    return box


def test_ones_own_usage_and_what_is_left_of_the_budget(paid: Stores) -> None:
    api = api_of(paid, "ana")
    Settings(paid.database, "ana").set("model_budget_usd", 2)
    found = api.data("GET", "/usage")
    assert [(row["purpose"], row["calls"], row["cost_usd"]) for row in found["rows"]] == [
        ("analysis", 3, 1.0),
        ("draft", 1, 0.25),
    ]
    assert (found["budget_usd"], found["spent_usd"], found["left_usd"]) == (2.0, 1.25, 0.75)
    assert found["message"] == ""
    api.refused(404, "GET", "/usage", params={"account": BOS_ACCOUNT})
    for days in (0, 367, "x"):
        api.refused(422, "GET", "/usage", params={"days": days})


def test_everybodys_usage_is_for_administrators(paid: Stores) -> None:
    paid.database.execute("UPDATE users SET is_admin = (user_id = 'ana')")
    ana, bo = api_of(paid, "ana"), api_of(paid, "bo")
    words = bo.refused(403, "GET", "/usage", params={"everybody": True})
    assert "administrator" in words
    assert {row["user_id"] for row in bo.data("GET", "/usage")["rows"]} == {"bo"}
    found = ana.data("GET", "/usage", params={"everybody": True})
    assert {row["user_id"] for row in found["rows"]} == {"ana", "bo"}
    assert found["spent_usd"] == 1.25  # her own
    bos = ana.data("GET", "/usage", params={"everybody": True, "account": BOS_ACCOUNT})
    assert [row["model"] for row in bos["rows"]] == ["wombat-model"]


def test_the_figure_has_the_cost_of_the_day_and_the_budget(paid: Stores, sign_in: SignIn) -> None:
    Settings(paid.database, "ana").set("model_budget_usd", 2)
    html = sign_in("ana").get("/figures").text
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert "What the language model cost" in html
    assert "$2.00, and $0.75 of it is left" in html
    assert f'<th scope="row">{today}</th><td>$1.25</td><td>1,350</td>' in html.replace(
        "\u202f", ","
    )
    assert "wombat-model" not in html


def test_the_inbox_says_that_the_budget_is_spent(paid: Stores, sign_in: SignIn) -> None:
    ana, bo = sign_in("ana"), sign_in("bo")
    assert "budget" not in ana.get("/inbox/list").text
    Settings(paid.database, None).set("model_budget_usd", 1.25)
    html = ana.get("/inbox/list").text
    assert "budget for today ($1.25) is spent" in html
    assert 'role="status"' in html
    assert "until 00:00 UTC" in api_of(paid, "ana").data("GET", "/usage")["message"]
    Settings(paid.database, None).set("model_budget_usd", 100)
    assert "is spent" not in ana.get("/inbox/list").text
    Settings(paid.database, "ana").set("model_budget_usd", 1)  # concerns nobody else
    assert "is spent" in ana.get("/inbox/list").text
    assert "is spent" not in bo.get("/inbox/list").text


def test_a_budget_of_nothing_is_no_news_where_no_model_is_missed(
    box: Stores, sign_in: SignIn
) -> None:
    Settings(box.database, None).set("model_budget_usd", 0)
    assert "is spent" not in sign_in("ana").get("/inbox/list").text


def test_the_inbox_says_that_the_offline_analyser_stands_in(box: Stores, sign_in: SignIn) -> None:
    say(box, "And now?", at=datetime.now(UTC), number="9", conversation="c9", draft="Now.")
    ana, bo = sign_in("ana"), sign_in("bo")
    assert "offline analyser" not in ana.get("/inbox/list").text
    why = "the server <b>is</b> busy"
    box.database.execute(
        "UPDATE analyses SET stood_in = ? WHERE conversation_id IN ('c1', 'c9')", (why,)
    )
    html = ana.get("/inbox/list").text
    assert "read 1 conversation of today in the model" in html  # c1 is not of today
    assert "the server &lt;b&gt;is&lt;/b&gt; busy" in html
    assert "offline analyser" not in bo.get("/inbox/list").text
