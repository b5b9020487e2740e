"""A person at the inbox, in a real Chromium: run with the peers' own Python, told what to do by
name, prints what was seen as JSON.

Belongs here: what a person does, and what the browser says about it. Does not belong here: the
server, the data, and what must hold (`test_inbox_browser.py`).

    browser.py SCENARIO ADDRESS FOLDER [JSON]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PASSWORD = "five plain words and more"


class Visit:
    """A browser with everything watched that a page may not do."""

    def __init__(self, browser: Any, address: str, folder: Path, **context: Any) -> None:
        self.address, self.folder = address, folder
        self.context = browser.new_context(
            viewport=context.pop("viewport", {"width": 1360, "height": 860}),
            timezone_id="Europe/Berlin",
            **context,
        )
        self.context.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation', "
            "(e) => window.violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' "
            "+ e.sourceFile));"
        )
        self.page: Page = self.context.new_page()
        self.said: dict[str, Any] = {"errors": [], "elsewhere": [], "violations": [], "axe": []}
        self.page.on("pageerror", lambda error: self.said["errors"].append(str(error)))
        self.page.on("dialog", lambda dialog: self._pwned(dialog))
        self.page.on("request", self._asked)
        self.page.set_default_timeout(15_000)

    def _pwned(self, dialog: Any) -> None:
        self.said["errors"].append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.address):
            self.said["elsewhere"].append(request.url)

    def go(self, path: str) -> None:
        self.look()
        self.page.goto(self.address + path)

    def look(self) -> None:
        """Note what the page that is left has done."""
        if self.page.url.startswith("http"):
            self.said["violations"] += self.page.evaluate("window.violations")
            self.said["errors"] += self.page.evaluate("window.pwned ? ['a script ran'] : []")

    def axe(self, name: str) -> None:
        """axe-core's findings that are serious or worse, by WCAG 2.2 AA."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})"
        )
        self.said["axe"] += [
            f"{name}: {one['id']} {one['nodes'][0]['html'][:120]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(self.folder / f"{name}.png"))

    def sign_in(self, user: str) -> None:
        self.go("/login")
        self.page.fill("#user", user)
        self.page.fill("#password", PASSWORD)
        self.page.click("button.main")
        self.page.wait_for_url("**/inbox")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def toast(self, words: str) -> str:
        toast = self.page.locator(".toast", has_text=words).first
        toast.wait_for()
        return toast.inner_text()

    def key(self) -> str | None:
        return self.page.locator("#thread [data-key]").get_attribute("data-key")

    def wait_for_another(self, than: str | None) -> None:
        self.page.wait_for_function(
            "(old) => document.querySelector('#thread [data-key]')?.dataset.key !== old", arg=than
        )


def first_login(visit: Visit, link: str) -> None:
    visit.go(link)
    visit.axe("welcome")
    visit.page.fill("#password", PASSWORD)
    visit.page.click("button.main")
    visit.page.wait_for_url("**/inbox")
    visit.said["title"] = visit.page.title()
    visit.page.click("text=Sign out")
    visit.page.wait_for_url("**/login")
    visit.axe("login")
    visit.sign_in("ana")


def triage(visit: Visit, _: str) -> None:
    """By keyboard alone: open, done, undo, edit and approve, undo, reject with a reason, snooze,
    search."""
    visit.sign_in("ana")
    page = visit.page
    visit.press("j")
    page.wait_for_selector("#thread [data-key]")
    first = visit.key()
    visit.axe("inbox")
    visit.shot("inbox")
    visit.press("d")
    visit.toast("Done")
    visit.wait_for_another(first)
    second = visit.key()
    visit.press("u")
    visit.toast("open again")
    page.wait_for_function("document.querySelectorAll('.row').length === 6")  # after the toast
    visit.said["counts"] = [page.locator(".row").count()]
    visit.press("e")
    page.wait_for_function("document.activeElement.id === 'text'")
    visit.press("Control+A")
    page.keyboard.type("Yes, at five then.")
    visit.press("Control+Enter")
    visit.said["approved"] = visit.toast("Approved: it leaves in")
    visit.wait_for_another(second)
    visit.press("u")
    visit.toast("Taken back")
    third = visit.key()
    page.locator("#thread [data-key-of=r]").wait_for()
    visit.press("r")
    page.wait_for_function("document.activeElement.id === 'why'")
    page.keyboard.type("too formal")
    visit.press("Tab", "Enter")
    visit.toast("rejected")
    page.locator("label", has_text="Rejected by").wait_for()
    page.locator("body").click(position={"x": 5, "y": 5})
    visit.press("s")
    visit.press("Enter")
    visit.toast("Snoozed until")
    visit.wait_for_another(third)
    visit.press("x")
    page.click("text=Approve the chosen")
    visit.toast("Approved: 1 of 1")
    visit.press("?")
    page.locator("#help").wait_for()
    visit.axe("help")
    visit.press("Escape")
    visit.press("/")
    page.keyboard.type("明天")
    visit.press("Enter")
    page.wait_for_url("**q=*")
    visit.said["found"] = page.locator(".row").count()
    visit.axe("search")
    visit.go("/outbox")
    visit.axe("outbox")
    visit.said["outbox"] = page.locator(".delivery strong").all_inner_texts()
    for path in ("figures", "digest", "settings"):
        visit.go(f"/{path}")
        visit.axe(path)
    visit.said["acted"] = [first, second, third]


def correct_and_redraft(visit: Visit, _: str) -> None:
    """Have the draft made anew, look at its versions, set the category, read what was learnt."""
    visit.sign_in("ana")
    page = visit.page
    visit.press("j")
    page.locator("#thread [data-key-of=n]").wait_for()
    visit.said["first"] = page.input_value("#text")
    visit.press("n")
    page.wait_for_function("document.activeElement.id === 'instruction'")
    page.keyboard.type("say no politely")
    visit.press("Tab", "Enter")
    visit.toast("Here is a new draft")
    page.locator("label", has_text="Draft, made anew").wait_for()
    visit.said["second"] = page.input_value("#text")
    page.click("text=Versions")
    page.locator(".versions li").first.wait_for()
    visit.said["versions"] = page.locator(".versions li .text").all_inner_texts()
    visit.axe("redraft")
    visit.shot("redraft")
    page.locator("body").click(position={"x": 5, "y": 5})
    visit.press("c")
    page.locator(".corrections select").first.wait_for()
    visit.axe("corrections")
    visit.shot("corrections")
    for path in ("inbox/memories", "settings", "figures"):
        visit.go(f"/{path}")
        visit.axe(path.replace("/", "-"))
        visit.shot(path.replace("/", "-"))


def phone_and_dark(visit: Visit, _: str) -> None:
    visit.sign_in("ana")
    page = visit.page
    visit.axe("phone list")
    visit.shot("phone-list")
    visit.said["panes"] = [page.locator("#main").is_visible(), page.locator("#thread").is_visible()]
    page.locator(".row > a").first.click()
    page.locator("#thread [data-key]").wait_for()
    page.wait_for_function("document.body.classList.contains('reading')")
    visit.said["panes"] += [
        page.locator("#main").is_visible(),
        page.locator("#thread").is_visible(),
    ]
    visit.axe("phone thread")
    visit.shot("phone-thread")
    visit.said["width"] = page.evaluate("document.documentElement.scrollWidth")
    visit.said["ground"] = page.evaluate("getComputedStyle(document.body).backgroundColor")


def news(visit: Visit, _: str) -> None:
    """What comes while the page is open shows by itself: the test makes it come."""
    visit.sign_in("ana")
    print("ready", flush=True)
    sys.stdin.readline()
    visit.page.locator(".row", has_text="Fresh news").wait_for(timeout=20_000)
    visit.said["rows"] = visit.page.locator(".row").count()


def stranger(visit: Visit, _: str) -> None:
    """Somebody else on the same installation."""
    visit.sign_in("bo")
    visit.go("/inbox?view=all")
    visit.said["text"] = visit.page.locator("body").inner_text()
    visit.go("/outbox")
    visit.said["text"] += visit.page.locator("body").inner_text()


def payloads(visit: Visit, last: str) -> None:
    """Every conversation of strangers who would run scripts."""
    visit.sign_in("ana")
    page = visit.page
    for view in ("all", "open"):
        visit.go(f"/inbox?view={view}")
        while page.locator(".more button").count():
            before = page.locator(".row").count()
            page.locator(".more button").click()
            page.wait_for_function(
                "(n) => document.querySelectorAll('.row').length > n", arg=before
            )
    number = 0
    for number in range(int(last)):
        # As a click does it, in the page that is open; every tenth as a page of its own.
        where = f"of=ana-box&conversation=c{number}"
        if number % 10 == 0:
            visit.go(f"/inbox?view=all&{where}")
        else:
            page.evaluate(
                "(where) => htmx.ajax('GET', '/inbox/conversation?' + where, '#thread')", where
            )
        page.locator(f"#thread [data-key='ana-box c{number}']").wait_for()
    visit.said["seen"] = number + 1


SCENARIOS = {
    "first_login": (first_login, {}),
    "triage": (triage, {}),
    "phone_and_dark": (
        phone_and_dark,
        {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "has_touch": True},
    ),
    "news": (news, {}),
    "correct_and_redraft": (correct_and_redraft, {}),
    "stranger": (stranger, {}),
    "payloads": (payloads, {}),
}


def main(name: str, address: str, folder: str, argument: str = "") -> None:
    act, context = SCENARIOS[name]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
            ],
        )
        visit = Visit(browser, address, Path(folder), **context)
        try:
            act(visit, argument)
        except Exception:
            visit.shot("failed")
            raise
        visit.look()
        print(json.dumps(visit.said), flush=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
