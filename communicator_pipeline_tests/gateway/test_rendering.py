"""A stranger's text is text, wherever it stands."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import orjson
import pytest
from fastapi.testclient import TestClient
from limits import parse

from communicator_pipeline.gateway import identity
from communicator_pipeline.gateway.api.asking import cursor_of, place_at
from communicator_pipeline.gateway.pages.inbox import (
    snoozed_until,
)
from communicator_pipeline.gateway.pages.rendering import STATIC, asset, linked, safe_name
from communicator_pipeline.storage import Stores
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, say
from communicator_pipeline_tests.gateway.conftest import SignIn
from communicator_pipeline_tests.gateway.strangers import ELSEWHERE, FIELDS, PAYLOADS, plant

OURS = re.compile(
    r"a|article|base-none|bdi|body|button|code|dd|details|dialog|div|dl|dt|form|h1|h2|head|header|"
    r"html|input|kbd|label|li|link|main|meta|nav|ol|option|p|pre|script|section|select|span|strong|"
    r"summary|textarea|time|title|ul"
)


class Seen(HTMLParser):
    """What a browser would make of a page, as far as it can do harm."""

    def __init__(self) -> None:
        super().__init__()
        self.harm: list[str] = []
        self.scripts = 0
        self.metas = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not OURS.fullmatch(tag):
            self.harm.append(f"<{tag}>")
        self.metas += tag == "meta"
        for name, value in attrs:
            text = (value or "").strip()
            if name.startswith(("on", "hx-on", "data-hx")) or name in ("srcdoc", "style"):
                self.harm.append(f"{name}={text}")
            if name in ("href", "src", "action", "hx-get", "hx-post"):
                ours = text.startswith(("/", "#", "http://127.0.0.1:3000/"))
                link = name == "href" and tag == "a" and text.startswith(("https://", "http://"))
                if not (ours or link):
                    self.harm.append(f"{name}={text}")
            if name == "http-equiv":
                self.harm.append(text)
        if tag == "script":
            self.scripts += 1
            if not dict(attrs).get("nonce"):
                self.harm.append("a script without the nonce")


def harm_in(html: str) -> list[str]:
    seen = Seen()
    seen.feed(html)
    return seen.harm


def test_no_payload_becomes_markup_anywhere(
    box: Stores, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "REQUESTS", parse("100000/minute"))
    planted = plant(box)
    assert planted == len(FIELDS) * len(PAYLOADS) > 300
    ana = sign_in("ana")
    pages = 0
    for number in range(planted):
        answer = ana.get(f"/inbox/conversation?of={ACCOUNT}&conversation=c{number}")
        assert answer.status_code == 200
        assert harm_in(answer.text) == [], number
        pages += 1
    after = "/inbox?view=all"
    html = ana.get(after).text
    while True:
        assert harm_in(html) == []
        pages += 1
        more = re.search(r'hx-get="(/inbox/list[^"]*after=[^"]*)"', html)
        if more is None:
            break
        html = ana.get(more.group(1).replace("&amp;", "&")).text
    for payload in PAYLOADS:
        answer = ana.get("/inbox", params={"q": payload, "view": "all"})
        assert harm_in(answer.text) == []
        answer = ana.get("/inbox", params={"account": payload, "category": payload})
        assert harm_in(answer.text) == []
        missing = ana.get("/inbox", params={"of": ACCOUNT, "conversation": payload})
        assert missing.status_code in (404, 422)
        assert harm_in(missing.text) == []
    assert pages > planted + 5


def test_the_look_itself_finds_harm() -> None:
    for payload in PAYLOADS[:6]:
        assert harm_in(f'<p title="x">{payload}</p><input value="{payload}">'), payload


def test_every_page_forbids_what_is_not_ours(sign_in: SignIn, browser: TestClient) -> None:
    ana = sign_in("ana")
    pages = [
        browser.get("/login"),
        browser.get("/welcome/x"),
        ana.get("/inbox"),
        ana.get("/inbox/list"),
        ana.get("/outbox"),
        ana.get("/inbox?of=a&conversation=b"),
    ]
    nonces = set()
    for page in pages:
        rules = dict(
            rule.strip().split(" ", 1)
            for rule in page.headers["content-security-policy"].split(";")
        )
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["base-uri"] == "'none'"
        assert re.fullmatch(r"'nonce-[\w-]{20,}'", rules["script-src"])
        nonces.add(rules["script-src"])
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
    assert len(nonces) == len(pages)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.example/x?y=1&z.", "https://a.example/x?y=1&amp;z"),
        ("(http://a.example)", "http://a.example"),
        ("https://a.example/\u202egpj.exe", "https://a.example/"),
    ],
)
def test_links_are_links_and_shown_in_full(text: str, shown: str) -> None:
    made = linked(text)
    assert f'href="{shown}"' in made
    assert f">{shown}</a>" in made
    assert 'rel="noopener noreferrer nofollow"' in made


@pytest.mark.parametrize(
    "text", ["javascript:alert(1)", "data:text/html,x", "ftp://a.example", "//a"]
)
def test_nothing_else_is_a_link(text: str) -> None:
    assert "<a" not in linked(text)


def test_hidden_signs_are_shown() -> None:
    made = linked("approve\u202e this\u200b, \U000e0041 please")
    assert made.count("unseen") == 3
    assert "U+202E" in made
    assert "U+E0041" in made


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\windows\\system32\\x.dll", "x.dll"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie: x"),
        ("...", "file"),
        ("", "file"),
    ],
)
def test_a_file_name_stays_where_it_is(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_nothing_is_loaded_from_elsewhere_by_our_own_files() -> None:
    for path in STATIC.iterdir():
        if path.suffix == ".css":
            assert "url(" not in path.read_text()
            assert "@import" not in path.read_text()
    assert ELSEWHERE not in "".join(p.read_text() for p in STATIC.iterdir())


def test_files_are_kept_by_browsers_and_nothing_else_is_given(browser: TestClient) -> None:
    answer = browser.get(asset("inbox.js"))
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")
    for path in ("/static/x/inbox.js", "/static/x/..%2f__init__.py", "/static/x/none.css"):
        assert browser.get(path).status_code == 404


def test_edits_deletions_and_what_is_on_its_way_are_seen(box: Stores, sign_in: SignIn) -> None:
    say(box, "Can you come at six?", version=2)
    say(box, "never mind", number="2", version=2, deleted=True)
    ana = sign_in("ana")
    where = f"?of={ACCOUNT}&conversation=c1"
    html = ana.get(f"/inbox/conversation{where}").text
    assert "edited" in html
    assert "This message was deleted." in html
    assert "never mind" not in html
    seen = re.search(r'name="seen" value="(\w+)"', html)
    assert seen
    stale = ana.post(f"/inbox/approve{where}", data={"text": "Yes", "seen": "old"})
    assert stale.status_code == 409
    assert "went on" in stale.text
    done = ana.post(f"/inbox/approve{where}", data={"text": "Yes", "seen": seen.group(1)})
    assert "it leaves in" in done.text
    assert "inbox-changed" in done.headers["hx-trigger"]
    html = ana.get(f"/inbox/conversation{where}").text
    assert "Take it back" in html
    assert 'id="draft"' not in html
    assert "c1" not in ana.get("/inbox/list?view=needs_reply").text
    undo = re.search(r'hx-post="(/inbox/undo[^"]*)"', done.text)
    assert undo
    assert ana.post(undo.group(1).replace("&amp;", "&")).status_code == 200
    assert "c1" in ana.get("/inbox/list?view=needs_reply").text


def test_drafts_are_approved_together_as_they_were_shown(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    html = ana.get("/inbox/list?view=needs_reply").text
    chosen = re.search(r'name="chosen" value="([^"]*)"', html)
    assert chosen
    value = chosen.group(1).replace("&#10;", "\n")
    old = value.rsplit(" ", 1)[0] + " 0"
    assert "Approved: 0 of 1" in ana.post("/inbox/approve-all", data={"chosen": old}).text
    assert "Approved: 1 of 1" in ana.post("/inbox/approve-all", data={"chosen": value}).text


def test_snoozing_means_the_readers_own_morning() -> None:
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    assert snoozed_until("tomorrow", START, berlin).isoformat() == "2026-11-03T08:00:00+00:00"
    assert snoozed_until("monday", START, berlin).isoformat() == "2026-11-09T08:00:00+00:00"
    assert snoozed_until("later", START, berlin).isoformat() == "2026-11-02T12:00:00+00:00"
    typed = snoozed_until("2026-11-05T10:30", START, berlin)
    assert typed.isoformat() == "2026-11-05T09:30:00+00:00"
    with pytest.raises(ValueError, match="until when"):
        snoozed_until("whenever", START, berlin)


def test_a_place_in_a_list_is_read_as_it_was_written() -> None:
    place = (1, 70, "2026-11-02T09:00:00.000000Z", "a b:c/d é", "ana-box")
    assert place_at(cursor_of(place)) == place
    for text in ("x", "1 2 3", "1 x 3 4 5"):
        with pytest.raises(ValueError, match="first page"):
            place_at(text)


def test_a_file_is_saved_and_never_shown(box: Stores, sign_in: SignIn) -> None:
    content = b"<script>window.pwned=1</script>"
    kept = box.lake.put_content(content)
    files = [
        {"name": 'x\r\n.html"; y', "mime": "text/html", "sha256": kept},
        {"name": "later.pdf", "url": "https://files.example/later.pdf", "sha256": None},
        {"name": "lost.pdf", "url": None, "sha256": None},
    ]
    box.database.execute(
        "UPDATE messages SET attachments = ? WHERE account = ?",
        (orjson.dumps(files).decode(), ACCOUNT),
    )
    ana, bo = sign_in("ana"), sign_in("bo")
    html = ana.get(f"/inbox/conversation?of={ACCOUNT}&conversation=c1").text
    addresses = [a.replace("&amp;", "&") for a in re.findall(r'href="(/inbox/file[^"]*)"', html)]
    assert len(addresses) == 3
    answer = ana.get(addresses[0])
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    said = answer.headers["content-disposition"]
    assert said == "attachment; filename*=UTF-8''x__.html%22%3B%20y"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "not been fetched" in ana.get(addresses[1]).text
    assert "did not hold" in ana.get(addresses[2]).text
    assert ana.get(addresses[0].replace("position=0", "position=9")).status_code == 404
    assert [bo.get(address).status_code for address in addresses] == [404, 404, 404]
