"""Secrets open what they should, for as long as they should, and are kept nowhere."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import argon2
import pytest

from communicator_pipeline.storage import Stores, sign_in
from communicator_pipeline.storage.accounts import NotFound, add_user, remove_user
from communicator_pipeline.storage.database import Database, SqliteDatabase
from communicator_pipeline.storage.sign_in import (
    FAILURES_COUNT_FOR,
    IDLE_AFTER,
    LINK_LASTS,
    LONGEST_PASSWORD,
    MOST_FAILURES,
    MOST_FAILURES_OF_ADDRESS,
    SESSION_LASTS,
    SHORTEST_PASSWORD,
    NotSignedIn,
    TooManyFailures,
    check_password,
    close_session,
    has_password,
    key_of,
    keys_of,
    make_key,
    make_link,
    open_session,
    revoke_key,
    session_of,
    set_password,
    use_link,
)

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
GOOD = "correct horse battery"
HERE = "127.0.0.1"
TICK = timedelta(microseconds=1)


@pytest.fixture
def database(stores: Stores) -> Database:
    add_user(stores.database, "bo", "Bo")
    set_password(stores.database, "ana", GOOD, NOW)
    return stores.database


def signs_in(
    database: Database,
    user: str = "ana",
    password: str = GOOD,
    address: str = HERE,
    at: datetime = NOW,
) -> bool:
    try:
        return check_password(database, user, password, address, at) == user
    except TooManyFailures:
        raise
    except NotSignedIn:
        return False


def together(jobs: list[Callable[[], object]]) -> list[object]:
    """All at once; what each returned or raised."""
    answers: list[object] = [None] * len(jobs)
    gate = threading.Barrier(len(jobs))

    def run(place: int) -> None:
        gate.wait()
        try:
            answers[place] = jobs[place]()
        except Exception as error:
            answers[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# --- passwords -------------------------------------------------------------------------------


def test_the_right_password_signs_in_and_no_other_does(database: Database) -> None:
    assert signs_in(database)
    for wrong in ("", GOOD[:-1], GOOD + " ", GOOD.upper(), "\ud800", "\0", "x" * 100_000):
        assert not signs_in(database, password=wrong)
        assert signs_in(database)


def test_a_password_is_its_own_users(database: Database) -> None:
    set_password(database, "bo", "another one of words", NOW)
    assert signs_in(database, "bo", "another one of words")
    assert not signs_in(database, "bo", GOOD)


@pytest.mark.parametrize(
    "weak",
    [
        "",
        "abcdefghijk",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababab",
        "correct horse battery" * 13,
    ],
)
def test_a_weak_password_is_refused_and_the_old_one_holds(database: Database, weak: str) -> None:
    with pytest.raises(ValueError, match="several words"):
        set_password(database, "ana", weak, NOW)
    assert signs_in(database)


def test_the_shortest_and_the_longest_password_sign_in_whole(database: Database) -> None:
    letters = "abcdefghijklmnop" * (LONGEST_PASSWORD // 16)
    for password in (letters[:SHORTEST_PASSWORD], letters):
        set_password(database, "ana", password, NOW)
        assert signs_in(database, password=password)
        assert not signs_in(database, password=password[:-1] + "!")
        assert not signs_in(database, password=password + "a")


def test_a_letter_with_an_accent_is_the_same_from_every_keyboard(database: Database) -> None:
    set_password(database, "ana", "caf\u00e9 au lait noir", NOW)
    assert signs_in(database, password="cafe\u0301 au lait noir")
    assert not signs_in(database, password="cafe au lait noir")


def test_an_unknown_name_is_told_the_same_as_a_wrong_password(database: Database) -> None:
    said = set()
    for user in ("ana", "bo", "nobody", "", "No Name", "\ud800", "x" * 5_000, "user:ana"):
        with pytest.raises(NotSignedIn) as refused:
            check_password(database, user, "wrong", f"of {user[:3]!r}", NOW)
        said.add((type(refused.value), str(refused.value)))
    assert len(said) == 1


def test_an_unknown_name_takes_as_long_as_a_wrong_password(database: Database) -> None:
    def seconds(user: str, number: int) -> float:
        at = NOW + number * FAILURES_COUNT_FOR
        begin = time.perf_counter()
        assert not signs_in(database, user, "wrong", at=at)
        return time.perf_counter() - begin

    sign_in._nobodys.cache_clear()  # other tests of this process made it with weaker settings
    signs_in(database, "nobody", "wrong", "elsewhere")
    known = statistics.median(seconds("ana", number) for number in range(1, 6))
    unknown = statistics.median(seconds("nobody", number) for number in range(6, 11))
    without = statistics.median(seconds("bo", number) for number in range(11, 16))
    assert unknown > known / 3, (unknown, known)
    assert without > known / 3, (without, known)


def test_a_hash_of_weaker_settings_is_made_anew_when_its_user_signs_in(database: Database) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8_192).hash(GOOD)
    database.execute("UPDATE passwords SET hash = ? WHERE user_id = 'ana'", (weak,))
    assert not signs_in(database, password="wrong")
    assert database.execute("SELECT hash FROM passwords") == [{"hash": weak}]
    assert signs_in(database)
    (row,) = database.execute("SELECT hash FROM passwords")
    assert not argon2.PasswordHasher().check_needs_rehash(row["hash"])
    assert signs_in(database)


def test_who_has_a_password_is_known(stores: Stores) -> None:
    add_user(stores.database, "bo", "Bo")
    assert not has_password(stores.database)
    set_password(stores.database, "ana", GOOD, NOW)
    assert has_password(stores.database)
    assert has_password(stores.database, "ana")
    assert not has_password(stores.database, "bo")


# --- who guesses -----------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["ana", "nobody"])
def test_a_name_is_closed_after_too_many_failures_and_opens_again(
    database: Database, user: str
) -> None:
    for number in range(MOST_FAILURES):
        assert not signs_in(database, user, "wrong", f"10.0.0.{number}")
    with pytest.raises(TooManyFailures, match="wait 15 minutes"):
        check_password(database, user, GOOD, "10.1.1.1", NOW)
    still = NOW + FAILURES_COUNT_FOR - TICK
    with pytest.raises(TooManyFailures):
        check_password(database, user, GOOD, "10.1.1.1", still)
    assert signs_in(database, user, at=NOW + FAILURES_COUNT_FOR) == (user == "ana")


def test_a_refused_try_does_not_make_the_wait_longer(database: Database) -> None:
    for number in range(MOST_FAILURES):
        assert not signs_in(database, password="wrong", address=f"10.0.0.{number}")
    for minute in range(1, 15):
        with pytest.raises(TooManyFailures):
            check_password(database, "ana", "wrong", HERE, NOW + timedelta(minutes=minute))
    assert signs_in(database, at=NOW + FAILURES_COUNT_FOR)


def test_another_user_signs_in_while_a_name_is_closed(database: Database) -> None:
    for _ in range(MOST_FAILURES):
        assert not signs_in(database, "bo", "wrong")
    assert signs_in(database, "ana")


def test_an_address_is_closed_after_too_many_failures_of_any_name(database: Database) -> None:
    for number in range(MOST_FAILURES_OF_ADDRESS):
        assert not signs_in(database, f"name-{number}", "wrong")
    with pytest.raises(TooManyFailures):
        check_password(database, "ana", GOOD, HERE, NOW)
    assert signs_in(database, address="10.0.0.1")
    assert signs_in(database, at=NOW + FAILURES_COUNT_FOR)


def test_signing_in_forgives_the_name_but_not_the_address(database: Database) -> None:
    for _ in range(2):
        for _ in range(MOST_FAILURES - 1):
            assert not signs_in(database, password="wrong")
        assert signs_in(database)
    rows = database.execute("SELECT who FROM login_failures")
    assert [row["who"] for row in rows] == [f"address:{HERE}"] * (2 * (MOST_FAILURES - 1))


def test_many_guesses_at_once_are_no_more_than_allowed(database: Database) -> None:
    def guess(number: int) -> Callable[[], object]:
        return lambda: check_password(database, "ana", f"wrong {number}", f"10.0.0.{number}", NOW)

    answers = together([guess(number) for number in range(20)])
    assert all(isinstance(answer, NotSignedIn) for answer in answers), answers
    refused = [answer for answer in answers if isinstance(answer, TooManyFailures)]
    assert len(refused) == 20 - MOST_FAILURES


# --- links -----------------------------------------------------------------------------------


def test_a_link_signs_in_once(database: Database) -> None:
    secret = make_link(database, "bo", NOW)
    assert use_link(database, secret, NOW) == "bo"
    with pytest.raises(NotSignedIn, match="used before or is too old"):
        use_link(database, secret, NOW)


def test_a_link_ends_with_its_day(database: Database) -> None:
    secret = make_link(database, "bo", NOW)
    with pytest.raises(NotSignedIn):
        use_link(database, secret, NOW + LINK_LASTS)
    assert use_link(database, secret, NOW + LINK_LASTS - TICK) == "bo"


def test_a_new_link_voids_the_users_earlier_one_and_nobody_elses(database: Database) -> None:
    first, of_ana, second = (make_link(database, user, NOW) for user in ("bo", "ana", "bo"))
    with pytest.raises(NotSignedIn):
        use_link(database, first, NOW)
    assert use_link(database, second, NOW) == "bo"
    assert use_link(database, of_ana, NOW) == "ana"


@pytest.mark.parametrize("secret", ["", "x", "\ud800", "\0", "é" * 1_000, "a" * 43])
def test_what_is_no_link_signs_nobody_in(database: Database, secret: str) -> None:
    make_link(database, "bo", NOW)
    with pytest.raises(NotSignedIn):
        use_link(database, secret, NOW)


def test_one_link_used_by_many_at_once_signs_in_once(database: Database) -> None:
    secret = make_link(database, "bo", NOW)
    answers = together([lambda: use_link(database, secret, NOW)] * 20)
    assert answers.count("bo") == 1
    assert sum(isinstance(answer, NotSignedIn) for answer in answers) == 19, answers


# --- sessions --------------------------------------------------------------------------------


def test_a_session_knows_its_user(database: Database) -> None:
    secret = open_session(database, "ana", NOW)
    session = session_of(database, secret, NOW)
    assert session is not None
    assert (session.user_id, session.name, session.is_admin) == ("ana", "Ana", True)
    other = session_of(database, open_session(database, "bo", NOW), NOW)
    assert other is not None
    assert (other.user_id, other.is_admin) == ("bo", False)
    assert len({session.csrf, other.csrf, secret}) == 3
    for wrong in ("", secret[:-1], secret + "a", session.csrf, "\ud800"):
        assert session_of(database, wrong, NOW) is None


def test_a_session_that_nobody_uses_is_over(database: Database) -> None:
    secret = open_session(database, "ana", NOW)
    assert session_of(database, secret, NOW + IDLE_AFTER) is None
    assert session_of(database, secret, NOW + IDLE_AFTER - TICK) is not None
    assert session_of(database, secret, NOW + 2 * IDLE_AFTER - 2 * TICK) is not None
    assert session_of(database, secret, NOW + 3 * IDLE_AFTER) is None


def test_a_session_that_is_used_every_day_is_over_after_a_month(database: Database) -> None:
    secret = open_session(database, "ana", NOW)
    for day in range(SESSION_LASTS.days):
        assert session_of(database, secret, NOW + timedelta(days=day)) is not None, day
    assert session_of(database, secret, NOW + SESSION_LASTS - TICK) is not None
    assert session_of(database, secret, NOW + SESSION_LASTS) is None


def test_sessions_that_are_over_do_not_pile_up(database: Database) -> None:
    open_session(database, "bo", NOW)
    open_session(database, "ana", NOW + SESSION_LASTS)
    assert database.execute("SELECT user_id FROM sessions") == [{"user_id": "ana"}]


def test_signing_out_ends_that_session_at_once(database: Database) -> None:
    first, second = open_session(database, "ana", NOW), open_session(database, "ana", NOW)
    close_session(database, first)
    assert session_of(database, first, NOW) is None
    assert session_of(database, second, NOW) is not None


def test_a_new_password_ends_the_users_sessions_and_links(database: Database) -> None:
    sessions = [open_session(database, "ana", NOW) for _ in range(2)]
    link = make_link(database, "ana", NOW)
    others, link_of_bo = open_session(database, "bo", NOW), make_link(database, "bo", NOW)
    set_password(database, "ana", "a wholly new one", NOW)
    assert [session_of(database, secret, NOW) for secret in sessions] == [None, None]
    with pytest.raises(NotSignedIn):
        use_link(database, link, NOW)
    assert not signs_in(database)
    assert signs_in(database, password="a wholly new one")
    assert session_of(database, others, NOW) is not None
    assert use_link(database, link_of_bo, NOW) == "bo"


# --- API keys --------------------------------------------------------------------------------


def test_a_key_says_whose_it_is_and_what_it_may(database: Database) -> None:
    for user, scope, is_admin in (("ana", "read", True), ("bo", "write", False)):
        key = key_of(database, make_key(database, user, "crm", scope, NOW), NOW)
        assert key is not None
        assert (key.user_id, key.scope, key.is_admin) == (user, scope, is_admin)


@pytest.mark.parametrize(
    ("name", "scope"),
    [("crm", "admin"), ("crm", ""), ("", "read"), (" ", "read"), ("x" * 101, "read")],
)
def test_a_key_of_no_known_scope_or_name_is_not_made(
    database: Database, name: str, scope: str
) -> None:
    with pytest.raises(ValueError, match="key"):
        make_key(database, "ana", name, scope, NOW)
    assert keys_of(database, "ana") == []


def test_a_revoked_key_opens_nothing_from_then_on(database: Database) -> None:
    text, other = (make_key(database, "ana", name, "write", NOW) for name in ("one", "two"))
    key = key_of(database, text, NOW)
    assert key is not None
    revoke_key(database, "ana", key.key_id, NOW)
    assert key_of(database, text, NOW) is None
    assert key_of(database, other, NOW) is not None
    revoke_key(database, "ana", key.key_id, NOW + timedelta(days=1))
    revoked = {row["name"]: row["revoked_at"] for row in keys_of(database, "ana")}
    assert revoked == {"one": "2026-11-02T09:00:00.000000Z", "two": None}


def test_nobody_revokes_or_sees_another_users_key(database: Database) -> None:
    text = make_key(database, "ana", "crm", "read", NOW)
    key = key_of(database, text, NOW)
    assert key is not None
    assert keys_of(database, "bo") == []
    with pytest.raises(NotFound) as of_another:
        revoke_key(database, "bo", key.key_id, NOW)
    with pytest.raises(NotFound) as of_nobody:
        revoke_key(database, "bo", "000000000000", NOW)
    assert str(of_another.value).replace(key.key_id, "000000000000") == str(of_nobody.value)
    assert key_of(database, text, NOW) is not None


def test_a_keys_last_use_is_noted_to_the_minute(database: Database) -> None:
    text = make_key(database, "ana", "crm", "read", NOW)

    def used_after(seconds: int) -> object:
        key_of(database, text, NOW + timedelta(seconds=seconds))
        return keys_of(database, "ana")[0]["used_at"]

    assert keys_of(database, "ana")[0]["used_at"] is None
    assert used_after(0) == "2026-11-02T09:00:00.000000Z"
    assert used_after(59) == "2026-11-02T09:00:00.000000Z"
    assert used_after(61) == "2026-11-02T09:01:01.000000Z"


def test_a_key_that_is_refused_is_not_used(database: Database) -> None:
    text = make_key(database, "ana", "crm", "read", NOW)
    assert key_of(database, text[:-1] + ("a" if text[-1] != "a" else "b"), NOW) is None
    assert keys_of(database, "ana")[0]["used_at"] is None


def test_what_has_not_the_shape_of_a_key_is_none(database: Database) -> None:
    text = make_key(database, "ana", "crm", "read", NOW)
    mark, key_id, secret = text.split("_", 2)
    digest = database.execute("SELECT digest FROM api_keys")[0]["digest"]
    shapes = [
        "", "_", "__", "___", "ck", "ck_", "ck__", f"ck_{key_id}", f"ck_{key_id}_",
        f"ck__{secret}", f"_{key_id}_{secret}", f"CK_{key_id}_{secret}", f"{key_id}_{secret}",
        f"ck_{secret}_{key_id}", text + "_", text + "a", text[:-1], f" {text}", f"{text}\n",
        f"{text}\0", text.upper(), f"ck_{key_id}_{digest}", f"ck_{key_id}_{secret[:-1]}\ud800",
        f"ck_\ud800_{secret}", f"ck_{key_id[:-1]}é_{secret}", f"ck_%_{secret}",
        f"ck_' OR 1=1 --_{secret}", f"ck_{key_id}_{'a' * 3_000_000}", f"ck_{'a' * 3_000_000}_x",
        f"ck_000000000000_{secret}", "\0", "🔑",
    ]  # fmt: skip
    assert mark == "ck"
    assert [shape[:60] for shape in shapes if key_of(database, shape, NOW) is not None] == []
    assert key_of(database, text, NOW) is not None


# --- what is kept, and what goes ---------------------------------------------------------------


@pytest.mark.embedded
def test_no_secret_is_in_the_database(stores: Stores, database: Database) -> None:
    link, session = make_link(database, "bo", NOW), open_session(database, "ana", NOW)
    key = make_key(database, "ana", "crm", "write", NOW)
    used = make_link(database, "ana", NOW)
    use_link(database, used, NOW)
    assert not signs_in(database, password="a wrong one of words")
    assert session_of(database, session, NOW + timedelta(hours=1)) is not None
    assert key_of(database, key, NOW) is not None
    secrets = [GOOD, "a wrong one of words", link, used, session, key, key.split("_", 2)[2]]
    kept = dump(database)
    assert "argon2id" in kept
    assert "crm" in kept
    assert [secret for secret in secrets if secret in kept] == []
    assert isinstance(stores.database, SqliteDatabase)
    raw = b"".join(file.read_bytes() for file in files_of(stores.database.path))
    assert b"argon2id" in raw
    assert [secret for secret in secrets if secret.encode() in raw] == []


def dump(database: Database) -> str:
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    names = [row["name"] for row in tables if not row["name"].startswith("messages_fts")]
    return "\n".join(str(database.execute(f"SELECT * FROM {name}")) for name in names)


def files_of(path: Path) -> list[Path]:
    """The database, and what is not yet written into it."""
    return sorted(path.parent.glob(f"{path.name}*"))


def test_a_removed_user_opens_nothing_any_more(database: Database) -> None:
    set_password(database, "bo", GOOD, NOW)
    session, link = open_session(database, "bo", NOW), make_link(database, "bo", NOW)
    key = make_key(database, "bo", "crm", "write", NOW)
    remove_user(database, "ana", "bo")
    add_user(database, "bo", "Another Bo")
    assert session_of(database, session, NOW) is None
    assert key_of(database, key, NOW) is None
    assert not signs_in(database, "bo")
    with pytest.raises(NotSignedIn):
        use_link(database, link, NOW)
