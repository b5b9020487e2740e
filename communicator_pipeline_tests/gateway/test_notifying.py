"""Notification targets, digests, settings and the export, over the API and on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.notifications import Notice, Targets, notice
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.world import ACCOUNT
from communicator_pipeline_tests.gateway.api_world import Api, api_of
from communicator_pipeline_tests.gateway.conftest import SignIn
from communicator_pipeline_tests.notifying.ear import Ear, listening

TARGETS = "/notifications/targets"
SECRET = "sesame-open"


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    monkeypatch.setenv("COMMUNICATOR_PRIVATE_TARGETS", "yes")
    with listening() as heard:
        yield heard


@pytest.fixture
def ana(box: Stores) -> Api:
    return api_of(box, "ana")


# --- the API ---------------------------------------------------------------------------------


def test_a_target_is_added_tried_and_removed(box: Stores, ana: Api, ear: Ear) -> None:
    (added,) = ana.data("POST", TARGETS, json={"name": "phone", "url": ear.url})
    assert (added["name"], added["shown"]) == ("phone", "json: JSON, 127.0.0.1")
    assert SECRET not in ana.ask("GET", TARGETS).text
    path = f"{TARGETS}/{added['target_id']}"
    assert ana.data("POST", f"{path}/test") == {"taken": True, "trouble": ""}
    assert len(ear.heard) == 1
    ear.status = 401
    tried = ana.data("POST", f"{path}/test")
    assert tried == {"taken": False, "trouble": "the service answered 401 Unauthorized"}
    (shown,) = ana.data("GET", TARGETS)
    assert shown["told_at"]
    assert shown["trouble"] == tried["trouble"]
    assert ana.data("DELETE", path) == []
    ana.refused(404, "DELETE", path)
    log = audit_log(box.database, "ana", None, 10)
    assert [row["action"] for row in log[:3]] == [
        "removed a notification target",
        "tried a notification target",
        "tried a notification target",
    ]
    assert SECRET not in str(log)


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "x", "url": f"dbus://{SECRET}"},
        {"name": "x", "url": f"slack://{SECRET}"},
        {"name": " ", "url": "json://example.org"},
        {"name": "x"},
        {"name": "x", "url": "json://example.org", "colour": "red"},
    ],
)
def test_what_is_no_target_is_refused_without_quoting_it(ana: Api, asked: dict[str, Any]) -> None:
    assert SECRET not in ana.refused(422, "POST", TARGETS, json=asked)


def test_private_addresses_are_refused_where_there_are_several_users(
    ana: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMMUNICATOR_PRIVATE_TARGETS", raising=False)
    words = ana.refused(422, "POST", TARGETS, json={"name": "x", "url": "json://169.254.169.254/"})
    assert "private network" in words


def test_operators_are_administrators(box: Stores, ana: Api) -> None:
    asked = {"name": "x", "url": "json://example.org/", "operators": True}
    assert ana.data("POST", TARGETS, json=asked)[0]["operators"] is True
    api_of(box, "bo").refused(403, "POST", TARGETS, json=asked)


def test_what_was_told_comes_in_pages(box: Stores, ana: Api) -> None:
    notices = [Notice("urgent", str(n), ACCOUNT, f"c{n}") for n in range(5)]
    notice(box.database, "ana", notices, datetime.now(UTC))
    first = ana.data("GET", "/notifications", params={"limit": 3})
    rest = ana.data("GET", "/notifications", params={"limit": 3, "cursor": first["next"]})
    told = [one["conversation_id"] for one in first["items"] + rest["items"]]
    assert told == ["c4", "c3", "c2", "c1", "c0"]
    assert rest["next"] is None


def test_digests_are_listed_newest_first_and_read(box: Stores, ana: Api) -> None:
    for day in ("2026-11-01", "2026-11-02", "2026-11-03"):
        box.lake.objects.put(digest_key(ACCOUNT, day), f"# {day}".encode())
    first = ana.data("GET", "/digests", params={"limit": 2})
    rest = ana.data("GET", "/digests", params={"limit": 2, "cursor": first["next"]})
    assert [one["day"] for one in first["items"] + rest["items"]] == [
        "2026-11-03",
        "2026-11-02",
        "2026-11-01",
    ]
    read = ana.data("GET", f"/digests/{ACCOUNT}/2026-11-02")
    assert read == {"account": ACCOUNT, "day": "2026-11-02", "markdown": "# 2026-11-02"}
    words = ana.refused(404, "GET", f"/digests/{ACCOUNT}/2026-11-09")
    assert f"communicator digest 2026-11-09 --account {ACCOUNT}" in words
    api_of(box, "bo").refused(404, "GET", f"/digests/{ACCOUNT}/2026-11-02")


def test_a_setting_is_unset_over_the_api(box: Stores, ana: Api) -> None:
    ana.data("PUT", "/settings/tone", json={"value": "dry"})
    assert ana.data("GET", "/settings")["tone"] == "dry"
    assert ana.data("DELETE", "/settings/tone")["settings"]["tone"] == ""
    assert Settings(box.database, "ana").get("tone") is None
    ana.refused(404, "DELETE", "/settings/nothing")


def test_the_export_is_a_stream_of_lines(box: Stores, ana: Api) -> None:
    answer = ana.ask("GET", "/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert "attachment" in answer.headers["content-disposition"]
    lines = [orjson.loads(line) for line in answer.text.splitlines()]
    assert lines[-1] == {"what": "end", "lines": len(lines) - 1}
    assert "Can you come at five?" in answer.text
    assert "Can you come at five?" not in api_of(box, "bo").ask("GET", "/export").text


# --- the page --------------------------------------------------------------------------------


def form(page: str, key: str) -> str:
    return page.split(f'id="setting-{key}"')[1].split("</form>")[0]


@pytest.mark.parametrize(
    ("key", "typed", "kept", "shown"),
    [
        ("zone", {"value": "Europe/Kyiv"}, "Europe/Kyiv", "<option selected>Europe/Kyiv</option>"),
        ("languages", {"value": "en, de uk"}, ["en", "de", "uk"], 'value="en de uk"'),
        ("tone", {"value": "dry & short"}, "dry & short", 'value="dry &amp; short"'),
        ("digest_at", {"value": "08:15"}, "08:15", 'type="time" value="08:15"'),
        ("urgent_priority", {"value": "70"}, 70.0, 'value="70"'),
        (
            "quiet_hours",
            {"first": "22:00", "last": "07:00", "chosen": ["fri", "sat"]},
            {"from": "22:00", "to": "07:00", "days": ["fri", "sat"]},
            'value="fri" checked',
        ),
        ("notify", {}, [], 'value="phone">'),
        ("notify", {"chosen": ["phone"]}, ["phone"], 'value="phone" checked>'),
    ],
)
def test_plain_settings_have_controls_of_their_own(
    box: Stores, sign_in: SignIn, key: str, typed: dict[str, Any], kept: Any, shown: str
) -> None:
    Targets(box.database, "ana").add(box.keys, "phone", "x", "x", False, datetime.now(UTC))
    ana = sign_in("ana")
    answer = ana.post(f"/settings/{key}", data=typed)
    assert answer.status_code == 200, answer.text
    assert Settings(box.database, "ana").get(key) == kept
    for page in (answer.text, ana.get("/settings").text):
        assert shown in form(page, key)
    assert "Saved." in form(answer.text, key)
    unset = ana.post(f"/settings/{key}/unset")
    assert "As it was at first." in form(unset.text, key)
    assert Settings(box.database, "ana").get(key) is None


def test_quiet_hours_without_times_are_none_and_half_of_them_are_refused(
    box: Stores, sign_in: SignIn
) -> None:
    ana = sign_in("ana")
    ana.post("/settings/quiet_hours", data={"first": "22:00", "last": "07:00", "chosen": ["mon"]})
    refused = ana.post("/settings/quiet_hours", data={"first": "22:00", "chosen": ["mon"]})
    assert refused.status_code == 422
    assert 'role="alert"' in form(refused.text, "quiet_hours")
    assert 'value="22:00"' in form(refused.text, "quiet_hours")
    assert ana.post("/settings/quiet_hours", data={"chosen": ["mon"]}).status_code == 200
    assert Settings(box.database, "ana").get("quiet_hours") is None


def test_targets_are_added_tried_and_removed_on_the_page(
    box: Stores, sign_in: SignIn, ear: Ear
) -> None:
    ana = sign_in("ana")
    part = {"hx-request": "true"}
    path = "/settings/notifications/targets"
    refused = ana.post(path, data={"name": "<b>p", "url": f"dbus://{SECRET}"}, headers=part)
    assert refused.status_code == 200
    assert "scheme of one of these services" in refused.text
    assert "&lt;b&gt;p" in refused.text
    assert SECRET not in refused.text
    added = ana.post(path, data={"name": "<b>phone", "url": ear.url, "operators": "true"})
    assert "&lt;b&gt;phone is added" in added.text
    assert SECRET not in added.text
    (row,) = Targets(box.database, "ana").all()
    assert row["operators"] is True
    tried = ana.post(f"{path}/{row['target_id']}/test")
    assert "took the message" in tried.text
    assert len(ear.heard) == 1
    ear.status = 500
    assert "500 Internal" in ana.post(f"{path}/{row['target_id']}/test").text
    assert "It did not take the last message" in ana.get("/settings").text
    assert sign_in("bo").post(f"{path}/{row['target_id']}/remove").status_code == 404
    gone = ana.post(f"{path}/{row['target_id']}/remove")
    assert "is removed" in gone.text
    assert Targets(box.database, "ana").all() == []


def test_who_is_no_administrator_is_not_asked_about_the_installation(sign_in: SignIn) -> None:
    assert 'name="operators"' in sign_in("ana").get("/settings").text
    bo = sign_in("bo")
    assert 'name="operators"' not in bo.get("/settings").text
    asked = {"name": "x", "url": "json://example.org", "operators": "true"}
    assert bo.post("/settings/notifications/targets", data=asked).status_code == 403


def test_the_page_offers_ones_data(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    link = re.search(r'href="(/settings/export)" download', ana.get("/settings").text)
    assert link
    answer = ana.get(link[1])
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "Can you come at five?" in answer.text
    assert sign_in("bo").get(link[1]).text.count("Can you come") == 0
