"""The pictures say what the numbers are, and neither they nor a digest let anything in."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from xml.etree import ElementTree

import orjson
import pytest
from fastapi.testclient import TestClient
from markupsafe import Markup

from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.gateway.pages import svg
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.world import ACCOUNT, say
from communicator_pipeline_tests.gateway.conftest import BOS_ACCOUNT, SignIn

EVIL = "<script>alert(1)</script>\"'&<style>*{}</style>"
SVG = "{http://www.w3.org/2000/svg}"


def bars(picture: str) -> dict[str, tuple[str, float]]:
    """What each bar says it is → the number in words, its height."""
    root = ElementTree.fromstring(picture)
    found = {}
    for rect in root.iter(f"{SVG}rect"):
        name, _, number = (rect.findtext(f"{SVG}title") or "").rpartition(": ")
        found[name] = (number, float(rect.attrib["height"]))
    return found


def pictures(page: str) -> list[str]:
    return re.findall(r'<svg class="picture".*?</svg>', page, re.DOTALL)


def rows(page: str) -> list[list[str]]:
    """The cells of every table's rows."""
    return [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    ]


@pytest.fixture
def busy(box: Stores) -> Stores:
    """Some days ago kim asked twice, ana answered the first after ten minutes."""
    box.database.execute("DELETE FROM messages")  # its age depends on when the test runs
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    for n, category in ((1, "question"), (2, EVIL)):
        at = noon - timedelta(days=n)
        say(box, "?", at=at, number=f"q{n}", conversation=f"d{n}", draft="Y", category=category)
    answered = noon - timedelta(days=1) + timedelta(minutes=10)
    say(box, "!", at=answered, author="ana", number="a1", conversation="d1")
    return box


@pytest.mark.parametrize("draw", [svg.stacked, svg.beside])
def test_a_picture_is_well_formed_and_its_names_stay_text(draw: Callable[..., Markup]) -> None:
    series = [svg.Series(EVIL, [1, None]), svg.Series("b", [3, 4])]
    picture = str(draw(EVIL, [EVIL, "two"], series))
    found = bars(picture)
    assert set(found) == {f"{EVIL}, {EVIL}", f"{EVIL}, b", "two, b"}
    assert found["two, b"][0] == "4"
    assert found["two, b"][1] == pytest.approx(4 * found[f"{EVIL}, {EVIL}"][1], abs=0.5)
    tags = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(picture).iter()}
    assert tags <= {"svg", "rect", "title", "text", "line"}
    assert "style=" not in picture


@pytest.mark.parametrize("most", [0, 1, 3, 7, 10, 99, 100, 101, 12_345, 7.5e7])
def test_no_bar_leaves_the_picture(most: float) -> None:
    for picture in (
        svg.stacked("t", ["a"], [svg.Series("x", [most / 2]), svg.Series("y", [most / 2])]),
        svg.beside("t", ["a"], [svg.Series("x", [most])]),
    ):
        for rect in ElementTree.fromstring(picture).iter(f"{SVG}rect"):
            top = float(rect.attrib["y"])
            assert 0 <= top <= top + float(rect.attrib["height"]) <= svg.HEIGHT


def test_the_tables_have_the_numbers_of_the_pictures(busy: Stores, sign_in: SignIn) -> None:
    page = sign_in("ana").get("/figures").text
    messages, answers = (bars(picture) for picture in pictures(page))
    head = next(row for row in rows(page) if row[0] == "Day")
    drawn = {name: number for name, (number, _) in messages.items()}
    listed: dict[str, str] = {}
    for row in rows(page):
        if len(row) == len(head) and row is not head and re.fullmatch(r"\d{4}-.*", row[0]):
            cells = dict(zip(head[1:-1], row[1:-1], strict=True))
            listed |= {f"{row[0][5:]}, {name}": n for name, n in cells.items() if n != "0"}
            assert int(row[-1]) == sum(map(int, row[1:-1]))
    assert drawn == {unescape(name): number for name, number in listed.items()}
    assert sum(map(int, drawn.values())) == 3
    assert {number for number, _ in answers.values()} == {"10 min"}
    head = next(row for row in rows(page) if row[1] == "Answered")
    weeks = [row for row in rows(page) if len(row) == len(head) and row[0].startswith("20")]
    assert sum(int(row[1]) for row in weeks) == 1
    assert sum(int(row[2]) for row in weeks) == 1
    assert [row[3:] for row in weeks if row[1] == "1"] == [["10 min", "10 min"]]


def test_figures_let_in_no_script_and_no_style(busy: Stores, sign_in: SignIn) -> None:
    answer = sign_in("ana").get("/figures?days=7")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<style" not in answer.text
    assert not re.search(r"\sstyle=", answer.text)
    assert "&lt;script&gt;alert" in answer.text


def test_nothing_to_draw_is_said_in_words(box: Stores, sign_in: SignIn) -> None:
    page = sign_in("bo").get("/figures").text
    assert pictures(page) == []
    for words in ("No messages came", "has been answered", "Nobody decided on a draft"):
        assert words in page


def test_what_is_not_ones_own_is_not_there(busy: Stores, sign_in: SignIn) -> None:
    bo = sign_in("bo")
    busy.lake.objects.put(digest_key(ACCOUNT, "2026-11-02"), b"# ana's secret")
    for path in (f"/figures?account={ACCOUNT}", f"/digest?day=2026-11-02&account={ACCOUNT}"):
        answer = bo.get(path)
        assert answer.status_code == 404
        assert "text/html" in answer.headers["content-type"]
    assert "secret" not in bo.get("/digest?day=2026-11-02").text
    assert "secret" in sign_in("ana").get("/digest?day=2026-11-02").text


@pytest.mark.parametrize("path", ["/figures", "/digest", "/settings"])
def test_nobody_sees_a_page_without_signing_in(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_digest_is_shown_and_its_quotes_stay_text(box: Stores, sign_in: SignIn) -> None:
    markdown = f"# {EVIL}\n\n## Waits\n\n- **80** kim: {EVIL}\n  - draft: [x](javascript:1)\n{EVIL}"
    box.lake.objects.put(digest_key(ACCOUNT, "2026-11-02"), markdown.encode())
    page = sign_in("ana").get("/digest?day=2026-11-02").text
    shown = re.findall(r'<section class="digest".*?</section>', page, re.DOTALL)[0]
    assert set(re.findall(r"<(\w+)", shown)) == {"section", "h2", "h3", "ul", "li", "strong", "p"}
    assert shown.count("&lt;script&gt;") == 3
    assert "<strong>80</strong> kim:" in shown
    assert shown.count("<ul>") == shown.count("</ul>") == 1
    assert "[x](javascript:1)" in shown
    assert "day=2026-11-01" in page
    assert "day=2026-11-03" in page


def test_a_day_without_a_digest_says_how_to_make_one(box: Stores, sign_in: SignIn) -> None:
    ana, today = sign_in("ana"), datetime.now(UTC).date().isoformat()
    page = ana.get("/digest").text
    assert f"communicator digest {today} --account {ACCOUNT}" in page
    assert 'rel="next"' not in page


@pytest.mark.parametrize("day", ["../../etc", "2026-02-30", "0001-01-01", "9999-12-31", "x"])
def test_what_is_no_day_is_refused_in_words(box: Stores, sign_in: SignIn, day: str) -> None:
    answer = sign_in("ana").get("/digest", params={"day": day})
    assert answer.status_code == 422
    assert "That did not work" in answer.text


@pytest.mark.parametrize(
    ("key", "typed", "kept"),
    [
        ("signature", "Ana\r\n<b>Box</b>", "Ana\n<b>Box</b>"),
        ("undo_seconds", "45", 45.0),
        ("approval_hours", "1.5", 1.5),
        ("priority_people", '["kim"]', ["kim"]),
        (
            "sending_hours",
            '{"zone": "Europe/Berlin", "from": "08:00", "to": "18:00", "days": ["mon"]}',
            {"zone": "Europe/Berlin", "from": "08:00", "to": "18:00", "days": ["mon"]},
        ),
    ],
)
def test_a_setting_is_saved_shown_and_noted(
    box: Stores, sign_in: SignIn, key: str, typed: str, kept: object
) -> None:
    ana = sign_in("ana")
    answer = ana.post(f"/settings/{key}", data={"value": typed}, headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert "Saved." in answer.text
    assert Settings(box.database, "ana").get(key) == kept
    assert Settings(box.database, "bo").get(key) is None
    assert "<b>Box" not in answer.text
    noted = audit_log(box.database, "ana", None, 1)[0]
    assert (noted["action"], noted["target"]) == ("changed a setting", key)
    again = ana.post(f"/settings/{key}", data={"value": value_of(ana, key)})
    assert again.status_code == 200
    assert Settings(box.database, "ana").get(key) == kept


def value_of(client: TestClient, key: str) -> str:
    """What a setting's form would send if nothing were typed."""
    form = client.get("/settings").text.split(f'id="setting-{key}"')[1].split("</form>")[0]
    area = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", form, re.DOTALL)
    field = area or re.search(r' value="(.*?)"', form)
    assert field
    return unescape(field[1])


def test_the_categories_are_saved_as_they_are_shown(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    typed = value_of(ana, "taxonomy")
    answer = ana.post("/settings/taxonomy", data={"value": typed})
    assert answer.status_code == 200, answer.text
    assert Settings(box.database, "ana").get("taxonomy") == orjson.loads(typed)


@pytest.mark.parametrize(
    ("key", "typed", "words"),
    [
        ("undo_seconds", "soon", "is no number"),
        ("undo_seconds", "-1", "how long an approval can be taken back"),
        ("undo_seconds", "nan", "undo_seconds should be"),
        ("priority_people", "[kim", "This is not JSON"),
        ("priority_people", '"kim"', "a list of person ids"),
        ("sending_hours", '{"zone": "Nowhere"}', "sending_hours should be"),
        ("sending_hours", "", "This is not JSON"),
    ],
)
def test_a_refused_value_is_explained_beside_its_field(
    box: Stores, sign_in: SignIn, key: str, typed: str, words: str
) -> None:
    ana = sign_in("ana")
    answer = ana.post(f"/settings/{key}", data={"value": typed})
    assert answer.status_code == 422
    form = answer.text.split(f'id="setting-{key}"')[1].split("</form>")[0]
    assert words in form
    assert value_of_is_kept(form, typed)
    assert answer.text.count('role="alert"') == 1
    assert Settings(box.database, "ana").get(key) is None
    # Of a part of a page, the browser would make a toast of it.
    headers = {"hx-request": "true"}
    part = ana.post(f"/settings/{key}", data={"value": typed}, headers=headers)
    assert part.status_code == 200
    assert words in part.text


def value_of_is_kept(form: str, typed: str) -> bool:
    return typed.replace('"', "&#34;") in form


def test_a_setting_that_there_is_not_is_not_found(box: Stores, sign_in: SignIn) -> None:
    assert sign_in("ana").post("/settings/nothing", data={"value": "1"}).status_code == 404


def test_a_change_without_the_pages_token_is_refused(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    for headers in ({"x-csrf-token": ""}, {"x-csrf-token": "x"}, {"origin": "https://evil.test"}):
        answer = ana.post("/settings/signature", data={"value": "evil"}, headers=headers)
        assert answer.status_code == 403
    assert Settings(box.database, "ana").get("signature") is None


def test_figures_of_an_account_are_its_own(box: Stores, sign_in: SignIn) -> None:
    page = sign_in("bo").get(f"/figures?account={BOS_ACCOUNT}&days=90").text
    assert 'aria-current="page"><bdi>Bo&#39;s box' in page
