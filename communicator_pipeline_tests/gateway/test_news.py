"""The stream of news ends with the session, and does not keep it alive."""

from __future__ import annotations

import threading
import time

import pytest

from communicator_pipeline.gateway.pages import inbox
from communicator_pipeline.storage import Stores
from communicator_pipeline_tests.gateway.conftest import SignIn


def test_the_stream_ends_when_its_session_is_revoked_and_is_no_use_of_it(
    box: Stores, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "NEWS_EVERY", 0.02)
    monkeypatch.setattr(inbox, "SIGNED_IN_EVERY", 0.1)
    looked: list[bool] = []
    identify = inbox.identify

    def counted(*args: object, **more: bool) -> object:
        looked.append(more.get("is_use", True))
        return identify(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "identify", counted)
    ana = sign_in("ana")
    heard: list[str] = []
    listener = threading.Thread(
        target=lambda: heard.append(ana.get("/inbox/news").text), daemon=True
    )
    listener.start()
    until = time.monotonic() + 5
    while looked.count(False) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert looked[:3] == [True, False, False]
    assert listener.is_alive()
    box.database.execute("DELETE FROM sessions")
    listener.join(3)
    assert not listener.is_alive()
    assert heard[0].startswith("retry: 5000")


def test_nobody_listens_without_a_session(sign_in: SignIn) -> None:
    ana = sign_in("ana")
    ana.cookies.clear()
    assert ana.get("/inbox/news").status_code == 401
