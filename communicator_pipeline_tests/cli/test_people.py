"""Users, members, keys, and what people do with conversations, with the command alone."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from communicator_pipeline.cli import app
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import Accounts, NotFound, make_admin
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.sign_in import (
    NotSignedIn,
    check_password,
    has_password,
    key_of,
    set_password,
    use_link,
)
from communicator_pipeline.storage.triage import Triage
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say

ASKED = datetime.now(UTC) - timedelta(hours=3)


class Command:
    """The command in this process, as the user who is asked for."""

    def __init__(self, user: str | None = None) -> None:
        self.user = user

    def __call__(self, *words: str) -> Result:
        env = {} if self.user is None else {"COMMUNICATOR_USER": self.user}
        return CliRunner().invoke(app, list(words), env=env)

    def json(self, *words: str) -> Any:
        answer = self(*words, "--json")
        assert answer.exit_code == 0, answer.stderr
        return json.loads(answer.stdout)

    def refused(self, *words: str) -> str:
        """What is said of a command that does nothing."""
        answer = self(*words)
        assert answer.exit_code in (1, 2), answer.stdout
        assert "Traceback" not in answer.stderr
        return str(answer.stderr).replace("\n", " ")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("COMMUNICATOR_URL", raising=False)
    return Command()


@pytest.fixture
def box(shell: Command) -> Stores:
    """Ana, who administers, owns a box with a question; bo reviews and vi reads there."""
    stores = open_local(home())
    add_box(stores)
    say(stores, "Can you come at five?", draft="Yes, I can.", at=ASKED)
    return stores


ANA, BO, VI = Command("ana"), Command("bo"), Command("vi")


def secret_of(answer: Any) -> str:
    base, _, secret = answer["link"].rpartition("/welcome/")
    assert base == "http://127.0.0.1:8700"
    return str(secret)


# --- users -----------------------------------------------------------------------------------


def test_the_first_user_administers_and_sets_a_password_with_the_link(shell: Command) -> None:
    assert "Nobody yet" in shell("users", "list").stdout
    added = shell.json("users", "add", "Ana Lima")
    assert added["user_id"] == "ana-lima"
    database, now = open_local(home()).database, datetime.now(UTC)
    left = datetime.fromisoformat(added["expires_at"]) - now
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
    assert secret_of(added) not in dump(database)
    assert use_link(database, secret_of(added), now) == "ana-lima"
    set_password(database, "ana-lima", "correct horse battery", now)
    assert shell.json("users", "list") == [
        {
            "user_id": "ana-lima",
            "name": "Ana Lima",
            "is_admin": True,
            "has_password": True,
            "accounts": [],
        }
    ]
    shell("users", "add", "Bo")
    listed = shell.json("users", "list")
    assert [(u["user_id"], u["is_admin"], u["has_password"]) for u in listed] == [
        ("ana-lima", True, True),
        ("bo", False, False),
    ]
    table = shell("users", "list").stdout
    assert "administrator" in table
    assert "Ana Lima" in table


def dump(database: Database) -> str:
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    names = [row["name"] for row in tables if not row["name"].startswith("messages_fts")]
    return "\n".join(str(database.execute(f"SELECT * FROM {name}")) for name in names)


def test_a_link_is_printed_on_one_line_for_people(shell: Command) -> None:
    printed = shell("users", "add", "Ana", "--base-url", "https://mail.example.org/inbox/").stdout
    lines = [line for line in printed.splitlines() if line.startswith("https://")]
    assert len(lines) == 1
    base, _, secret = lines[0].rpartition("/welcome/")
    assert base == "https://mail.example.org/inbox"
    assert use_link(open_local(home()).database, secret, datetime.now(UTC)) == "ana"


def test_a_new_link_voids_the_one_before(shell: Command) -> None:
    first = secret_of(shell.json("users", "add", "Ana"))
    second = secret_of(shell.json("users", "link", "ana"))
    database, now = open_local(home()).database, datetime.now(UTC)
    with pytest.raises(NotSignedIn):
        use_link(database, first, now)
    assert use_link(database, second, now) == "ana"
    assert not has_password(database)


def test_the_links_address_comes_from_the_environment(
    shell: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMUNICATOR_URL", "https://mail.example.org")
    assert shell.json("users", "add", "Ana")["link"].startswith("https://mail.example.org/welcome/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://mail.example.org", "over HTTPS only"),
        ("http://0.0.0.0:8700", "over HTTPS only"),
        ("mail.example.org", "is no address of a gateway"),
        ("ftp://mail.example.org", "is no address of a gateway"),
        ("https://", "is no address of a gateway"),
        ("https://mail.example.org?a=b", "is no address of a gateway"),
        ("", "is no address of a gateway"),
    ],
)
def test_an_address_where_nobody_could_sign_in_is_refused_before_anything_is_made(
    shell: Command, url: str, said: str
) -> None:
    assert said in shell.refused("users", "add", "Ana", "--base-url", url)
    assert shell.json("users", "list") == []


@pytest.mark.parametrize("url", ["http://localhost:1", "http://[::1]:8700", "http://127.0.0.2"])
def test_this_machine_needs_no_https(shell: Command, url: str) -> None:
    link = shell.json("users", "add", "Ana", "--base-url", url)["link"]
    assert link.startswith(f"{url}/welcome/")


def test_a_user_is_not_added_twice_and_the_link_of_the_first_holds(shell: Command) -> None:
    first = secret_of(shell.json("users", "add", "Ana"))
    assert "communicator users link ana" in shell.refused("users", "add", "ana")
    assert use_link(open_local(home()).database, first, datetime.now(UTC)) == "ana"


@pytest.mark.parametrize("name", ["", "???", "日本"])
def test_a_name_that_makes_no_user_is_refused_in_words(shell: Command, name: str) -> None:
    assert "is not a user name" in shell.refused("users", "add", name)
    assert "there is no user" in shell.refused("users", "link", name)


def test_another_user_is_made_an_administrator(box: Stores) -> None:
    assert ANA.json("users", "add", "bo", "--admin") == {"user_id": "bo", "is_admin": True}
    assert "link" in ANA.json("users", "add", "Cy", "--admin")
    admins = [user["user_id"] for user in ANA.json("users", "list") if user["is_admin"]]
    assert admins == ["ana", "bo", "cy"]


def test_an_administrator_removes_a_user_with_all_that_was_theirs(box: Stores) -> None:
    database, now = box.database, datetime.now(UTC)
    set_password(database, "bo", "correct horse battery", now)
    key = BO.json("keys", "add", "crm")["key"]
    Settings(database, "bo").set("signature", "Bo")
    Triage(database, "ana").assign(ACCOUNT, "c1", "bo", now)
    assert ANA.json("users", "remove", "bo") == {"user_id": "bo", "removed": True}
    assert [user["user_id"] for user in ANA.json("users", "list")] == ["ana", "vi"]
    assert key_of(database, key, now) is None
    with pytest.raises(NotSignedIn):
        check_password(database, "bo", "correct horse battery", "here", now)
    assert Inbox(database, "ana").conversation("c1")["assigned_to"] == ""
    assert database.execute("SELECT assigned_to FROM conversation_states") == [{"assigned_to": ""}]
    assert database.execute("SELECT * FROM settings WHERE scope = 'user:bo'") == []
    assert [m.user_id for m in Accounts(database, "ana").members(ACCOUNT)] == ["ana", "vi"]


def test_who_cannot_be_removed_is_said_with_what_to_do(box: Stores) -> None:
    before = ANA.json("users", "list")
    assert "only an administrator" in BO.refused("users", "remove", "vi")
    assert "there is no user 'nobody'" in ANA.refused("users", "remove", "nobody")
    said = ANA.refused("users", "remove", "ana")
    assert f"nobody else owns {ACCOUNT}" in said
    assert "communicator members set ACCOUNT USER owner --user ana" in said
    assert ANA.json("users", "list") == before
    ANA("members", "set", ACCOUNT, "bo", "owner")
    assert "last administrator" in ANA.refused("users", "remove", "ana")
    make_admin(box.database, "bo")
    assert ANA("users", "remove", "ana").exit_code == 0
    assert [user["user_id"] for user in BO.json("users", "list")] == ["bo", "vi"]
    assert [m["user_id"] for m in BO.json("members", "list", ACCOUNT)] == ["bo", "vi"]
    assert "there is no user 'ana'" in ANA.refused("inbox")


# --- members ---------------------------------------------------------------------------------


def test_an_owner_sets_and_removes_members(box: Stores) -> None:
    ANA.json("users", "add", "Cy")
    assert ANA.json("members", "set", ACCOUNT, "cy", "viewer")["role"] == "viewer"
    assert ANA.json("members", "set", ACCOUNT, "bo", "owner")["role"] == "owner"
    assert BO("members", "remove", ACCOUNT, "vi").exit_code == 0
    listed = BO.json("members", "list", ACCOUNT)
    assert [(m["user_id"], m["name"], m["role"]) for m in listed] == [
        ("ana", "Ana", "owner"),
        ("bo", "Bo", "owner"),
        ("cy", "Cy", "viewer"),
    ]
    assert "viewer" in BO("members", "list", ACCOUNT).stdout
    assert "there is no account" in VI.refused("members", "list", ACCOUNT)


@pytest.mark.parametrize("user", ["bo", "vi"])
def test_who_is_no_owner_changes_no_member(box: Stores, user: str) -> None:
    before = ANA.json("members", "list", ACCOUNT)
    theirs = Command(user)
    for words in (
        ("set", ACCOUNT, user, "owner"),
        ("set", ACCOUNT, "ana", "viewer"),
        ("remove", ACCOUNT, "ana"),
        ("remove", ACCOUNT, user),
    ):
        assert "only an owner can do this" in theirs.refused("members", *words)
    assert theirs.json("members", "list", ACCOUNT) == before


def test_the_last_owner_stays(box: Stores) -> None:
    before = ANA.json("members", "list", ACCOUNT)
    for words in (
        ("remove", ACCOUNT, "ana"),
        ("set", ACCOUNT, "ana", "reviewer"),
        ("set", ACCOUNT, "ana", "viewer"),
    ):
        assert "last owner" in ANA.refused("members", *words)
    assert ANA.json("members", "list", ACCOUNT) == before
    assert ANA("members", "set", ACCOUNT, "ana", "owner").exit_code == 0
    ANA("members", "set", ACCOUNT, "bo", "owner")
    assert ANA("members", "set", ACCOUNT, "ana", "viewer").exit_code == 0
    assert "last owner" in BO.refused("members", "remove", ACCOUNT, "bo")


def test_owners_who_remove_each_other_at_once_leave_one(box: Stores) -> None:
    Accounts(box.database, "ana").set_member(ACCOUNT, "bo", "owner")
    for _ in range(20):
        gate = threading.Barrier(2)

        def remove(asker: str, other: str, gate: threading.Barrier = gate) -> None:
            gate.wait()
            with contextlib.suppress(NotFound, PermissionError, ValueError):
                Accounts(box.database, asker).remove_member(ACCOUNT, other)

        both = [
            threading.Thread(target=remove, args=pair) for pair in (("ana", "bo"), ("bo", "ana"))
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        owners = box.database.execute(
            "SELECT user_id FROM account_members WHERE account = ? AND role = 'owner'", (ACCOUNT,)
        )
        assert len(owners) == 1
        accounts = Accounts(box.database, owners[0]["user_id"])
        for name in ("ana", "bo"):
            accounts.set_member(ACCOUNT, name, "owner")


def test_another_users_account_is_not_there(box: Stores) -> None:
    ANA.json("users", "add", "Cy")
    Accounts(box.database, "cy").add("cy-box", "sandbox", "Box")
    before = dump(box.database)
    for words in (("list",), ("set", "ana", "owner"), ("remove", "cy")):
        for account in ("cy-box", "nothing"):
            said = ANA.refused("members", words[0], account, *words[1:])
            assert f"there is no account '{account}' (yours: {ACCOUNT})" in said
    assert dump(box.database) == before


def test_what_is_no_member_or_no_role_is_refused_in_words(box: Stores) -> None:
    assert "there is no user 'cy'" in ANA.refused("members", "set", ACCOUNT, "cy", "owner")
    assert "owner, reviewer, viewer" in ANA.refused("members", "set", ACCOUNT, "bo", "boss")
    assert "is no member" in ANA.refused("members", "remove", ACCOUNT, "cy")


def test_a_removed_members_conversations_are_nobodys(box: Stores) -> None:
    ANA("assign", "c1", "bo")
    ANA("members", "remove", ACCOUNT, "bo")
    assert Inbox(box.database, "ana").conversation("c1")["assigned_to"] == ""
    say(box, "And?", draft="Yes!", at=ASKED + timedelta(hours=1), number="2")
    assert Inbox(box.database, "ana").conversation("c1")["assigned_to"] == ""


# --- keys ------------------------------------------------------------------------------------


def test_a_key_is_made_listed_used_and_revoked(box: Stores) -> None:
    made = BO.json("keys", "add", "crm", "--scope", "write")
    key = key_of(box.database, made["key"], datetime.now(UTC))
    assert key is not None
    assert (key.key_id, key.user_id, key.scope) == (made["key_id"], "bo", "write")
    (listed,) = BO.json("keys", "list")
    assert (listed["name"], listed["scope"], listed["revoked_at"]) == ("crm", "write", None)
    assert listed["used_at"]
    assert made["key"].split("_", 2)[2] not in BO("keys", "list").stdout + dump(box.database)
    assert ANA.json("keys", "list") == []
    assert "no API key" in ANA.refused("keys", "revoke", made["key_id"])
    assert key_of(box.database, made["key"], datetime.now(UTC)) is not None
    assert BO.json("keys", "revoke", made["key_id"])["revoked"]
    assert key_of(box.database, made["key"], datetime.now(UTC)) is None
    assert "revoked" in BO("keys", "list").stdout


def test_a_key_may_only_read_unless_it_is_asked_for_more(box: Stores) -> None:
    printed = BO("keys", "add", "crm").stdout
    (text,) = [line for line in printed.splitlines() if line.startswith("ck_")]
    key = key_of(box.database, text, datetime.now(UTC))
    assert key is not None
    assert key.scope == "read"
    assert "'read' or 'write'" in BO.refused("keys", "add", "crm", "--scope", "all")
    assert len(BO.json("keys", "list")) == 1


# --- conversations ---------------------------------------------------------------------------


def shown(view: str) -> bool:
    database = open_local(home()).database
    return bool(Inbox(database, "ana").conversations(view=view))  # type: ignore[arg-type]


def test_a_conversation_is_done_and_taken_back(box: Stores) -> None:
    assert "Done, until" in BO("done", "c1").stdout
    assert not shown("open")
    assert BO.json("reopen", "c1", "--account", ACCOUNT) == {
        "account": ACCOUNT,
        "conversation_id": "c1",
        "state": "open",
    }
    assert shown("open")
    assert BO.json("done", "c1")["state"] == "done"
    say(box, "And?", draft="Yes!", at=ASKED + timedelta(hours=1), number="2")
    assert shown("open")


def test_a_conversation_is_snoozed_until_a_time_in_utc(box: Stores) -> None:
    until = (datetime.now(UTC) + timedelta(days=2)).replace(second=0, microsecond=0)
    answer = BO.json("snooze", "c1", "--until", f"{until:%Y-%m-%dT%H:%M}")
    assert (answer["state"], answer["until"]) == ("snoozed", until.isoformat())
    inbox = Inbox(box.database, "ana")
    assert not shown("open")
    assert shown("snoozed")
    assert not inbox.conversations(now=until - timedelta(seconds=1))
    assert inbox.conversations(now=until)
    assert "a time to come" in BO.refused("snooze", "c1", "--until", "2026-01-01")


def test_a_conversation_is_assigned_and_given_back(box: Stores) -> None:
    assert ANA.json("assign", "c1", "bo")["assigned_to"] == "bo"
    assert Inbox(box.database, "bo").conversations(view="assigned")
    assert "Nobody looks after it" in ANA("assign", "c1").stdout
    assert not Inbox(box.database, "bo").conversations(view="assigned")
    assert "is no member" in ANA.refused("assign", "c1", "cy")


SORTING = [("done", "c1"), ("snooze", "c1", "--until", "2099-01-01"), ("reopen", "c1")]


@pytest.mark.parametrize("words", [*SORTING, ("assign", "c1", "vi")])
def test_who_may_not_or_does_not_see_it_changes_nothing(
    box: Stores, words: tuple[str, ...]
) -> None:
    ANA.json("users", "add", "Cy")
    before = dump(box.database)
    assert "you are a viewer" in VI.refused(*words)
    assert "`communicator inbox` shows their ids" in Command("cy").refused(*words)
    assert "`communicator inbox` shows their ids" in ANA.refused(words[0], "no", *words[2:])
    assert "say which with --user" in Command().refused(*words)
    assert dump(box.database) == before


# --- the audit log ---------------------------------------------------------------------------


def test_every_change_is_in_the_audit_log(box: Stores) -> None:
    ANA("users", "add", "Cy")
    ANA("members", "set", ACCOUNT, "cy", "viewer")
    ANA("members", "remove", ACCOUNT, "cy")
    ANA("users", "remove", "cy")
    BO("done", "c1")
    BO("snooze", "c1", "--until", "2099-01-01")
    BO("reopen", "c1")
    BO("assign", "c1", "bo")
    key = BO.json("keys", "add", "crm")["key_id"]
    BO("keys", "revoke", key)
    rows = ANA.json("audit")
    assert {row["via"] for row in rows} == {"command"}
    assert [(r["user_id"], r["action"], r["account"], r["target"]) for r in reversed(rows)] == [
        ("", "added a user", None, "cy"),
        ("", "made a link", None, "cy"),
        ("ana", "set a member", ACCOUNT, "cy"),
        ("ana", "removed a member", ACCOUNT, "cy"),
        ("ana", "removed a user", None, "cy"),
        ("bo", "done", ACCOUNT, "c1"),
        ("bo", "snoozed", ACCOUNT, "c1"),
        ("bo", "reopened", ACCOUNT, "c1"),
        ("bo", "assigned", ACCOUNT, "c1"),
        ("bo", "made a key", None, key),
        ("bo", "revoked a key", None, key),
    ]
    assert {row["user_id"] for row in BO.json("audit")} == {"bo"}
    assert VI.json("audit") == []
    assert "Nothing is noted yet." in VI("audit").stdout
    first, second = ANA.json("audit", "--limit", "2")
    assert ANA.json("audit", "--before", str(first["id"]))[0] == second
    assert "revoked a key" in ANA("audit").stdout.replace("\n", " ")


def test_what_was_refused_is_not_in_the_audit_log(box: Stores) -> None:
    VI.refused("done", "c1")
    BO.refused("members", "set", ACCOUNT, "bo", "owner")
    ANA.refused("users", "remove", "ana")
    ANA.refused("keys", "revoke", "nothing")
    assert ANA.json("audit") == []
