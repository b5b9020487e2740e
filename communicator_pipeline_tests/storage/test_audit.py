"""Who did what is seen by whom it concerns, and by nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, add_user, make_admin, remove_user
from communicator_pipeline.storage.audit import LONGEST_DETAIL, audit_log, note
from communicator_pipeline.storage.database import Database, utc_text

SOON = datetime.now(UTC) + timedelta(hours=1)
"""After everything that the tests make."""


@pytest.fixture
def database(stores: Stores) -> Database:
    """Ana administers; bo owns bo-box, where cy reviews and vi reads."""
    for name in ("bo", "cy", "vi", "stranger"):
        add_user(stores.database, name, name.title())
    accounts = Accounts(stores.database, "bo")
    accounts.add("bo-box", "sandbox", "Box")
    accounts.set_member("bo-box", "cy", "reviewer")
    accounts.set_member("bo-box", "vi", "viewer")
    return stores.database


def did(database: Database, user: str, action: str, account: str | None = None) -> None:
    note(database, user, action, SOON, account=account)


def seen(database: Database, user: str) -> list[str]:
    return [row["action"] for row in audit_log(database, user, None, 100)]


def test_a_note_says_who_did_what_to_what_when_and_how(database: Database) -> None:
    note(
        database, "cy", "approved", SOON,
        account="bo-box", target="c1", detail="a-1", via="key:123",
    )  # fmt: skip
    assert audit_log(database, "cy", None, 10) == [
        {
            "id": 1,
            "at": utc_text(SOON),
            "user_id": "cy",
            "account": "bo-box",
            "action": "approved",
            "target": "c1",
            "detail": "a-1",
            "via": "key:123",
        }
    ]


def test_a_note_is_cut_to_a_length_that_can_be_read(database: Database) -> None:
    note(database, "cy", "approved", SOON, target="t" * 5_000, detail="d" * 5_000)
    (row,) = audit_log(database, "cy", None, 10)
    assert (len(row["target"]), len(row["detail"])) == (200, LONGEST_DETAIL)


def test_an_owner_sees_what_others_did_in_the_account_and_nothing_else_of_them(
    database: Database,
) -> None:
    did(database, "bo", "of bo")
    did(database, "cy", "of cy")
    did(database, "cy", "of cy in the box", "bo-box")
    did(database, "ana", "of ana in her own", "ana-chat")
    did(database, "", "of nobody")
    assert seen(database, "bo") == ["of cy in the box", "of bo"]


@pytest.mark.parametrize("user", ["cy", "vi"])
def test_who_is_no_owner_sees_what_they_did_alone(database: Database, user: str) -> None:
    for name in ("bo", "cy", "vi"):
        did(database, name, f"of {name} in the box", "bo-box")
    assert seen(database, user) == [f"of {user} in the box"]


def test_an_administrator_sees_everything(database: Database) -> None:
    for name in ("bo", "cy", ""):
        did(database, name, f"of {name}")
    assert seen(database, "ana") == ["of ", "of cy", "of bo"]
    make_admin(database, "vi")
    assert seen(database, "vi") == ["of ", "of cy", "of bo"]


@pytest.mark.parametrize("user", ["stranger", "nobody", ""])
def test_whom_nothing_concerns_sees_nothing(database: Database, user: str) -> None:
    did(database, "bo", "of bo in the box", "bo-box")
    did(database, "", "of nobody")
    did(database, "nobody", "of a user who is gone")
    assert seen(database, user) == []


def test_who_was_an_owner_does_not_see_the_account_any_more(database: Database) -> None:
    did(database, "cy", "of cy in the box", "bo-box")
    did(database, "bo", "of bo in the box", "bo-box")
    Accounts(database, "bo").set_member("bo-box", "cy", "owner")
    Accounts(database, "cy").remove_member("bo-box", "bo")
    assert seen(database, "bo") == ["of bo in the box"]
    assert seen(database, "cy") == ["of bo in the box", "of cy in the box"]


def test_a_key_that_is_given_again_does_not_show_what_its_first_owner_did(
    database: Database,
) -> None:
    note(database, "bo", "of the first owner", datetime.now(UTC), account="bo-box")
    database.execute("DELETE FROM accounts WHERE account = 'bo-box'")
    Accounts(database, "stranger").add("bo-box", "sandbox", "Box")
    note(database, "cy", "in the second", SOON, account="bo-box")
    assert seen(database, "stranger") == ["in the second"]


def test_a_name_that_is_given_again_does_not_show_what_its_first_user_did(
    database: Database,
) -> None:
    note(database, "cy", "of the first cy", datetime.now(UTC))
    remove_user(database, "ana", "cy")
    add_user(database, "cy", "Another Cy")
    did(database, "cy", "of the second")
    assert seen(database, "cy") == ["of the second"]
    assert seen(database, "ana") == ["of the second", "of the first cy"]


def test_pages_go_back_to_the_first_note(database: Database) -> None:
    for number in range(50):
        did(database, "cy", f"{number}")
        did(database, "vi", "something else")
    found: list[str] = []
    before: int | None = None
    while page := audit_log(database, "cy", before, 7):
        assert len(page) <= 7
        found += [row["action"] for row in page]
        before = page[-1]["id"]
    assert found == [f"{number}" for number in reversed(range(50))]
