"""How notifications read, and what they must not hold."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from communicator_pipeline.notifying.wording import (
    LONGEST_TEXT,
    MOST_LINES,
    digest_message,
    link_to,
    trouble_message,
    urgent_message,
)

URL = "https://inbox.example.org/"


def row(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "account": "ana-slack",
        "conversation_id": f"C1:{number}",
        "channel": "harbor",
        "last_author": "Ben",
        "priority": 91,
        "summary": "Ben needs the key today.",
        **more,
    }


def test_one_conversation_is_told_with_place_summary_and_link() -> None:
    message = urgent_message([row()], URL)
    assert message.title == "harbor waits for your reply"
    assert message.text == (
        "91 · harbor: Ben needs the key today.\n"
        "https://inbox.example.org/inbox?of=ana-slack&conversation=C1%3A1"
    )


def test_many_are_one_message_that_counts_them() -> None:
    message = urgent_message([row(n) for n in range(MOST_LINES + 5)], URL)
    assert message.title == f"{MOST_LINES + 5} conversations wait for your reply"
    assert message.text.count("conversation=") == MOST_LINES
    assert "and 5 more" in message.text


@pytest.mark.parametrize("conversation", ["a/b?c#d&e=f", "ü ..", "%2F"])
def test_a_link_carries_any_id(conversation: str) -> None:
    asked = parse_qs(urlsplit(link_to(URL, "a", conversation)).query)
    assert asked == {"of": ["a"], "conversation": [conversation]}


def test_a_strangers_text_is_one_short_line_without_signs_that_steer() -> None:
    evil = "first\nsecond\r\n\u202eturned\u2066\0\x1b[31m " + "x" * 1_000
    text = urgent_message([row(summary=evil, channel=evil)], URL).text
    assert len(text.splitlines()) == 2
    assert not set("\u202e\u2066\0\x1b\r") & set(text)
    assert len(text) < 600


def test_a_digest_leaves_out_drafts_and_stays_short() -> None:
    markdown = "# ana-slack, 2026-11-02\n\n- **80** harbor: the key\n  - draft: It is with me.\n"
    message = digest_message({"2026-11-02": [markdown]}, URL)
    assert message.title == "Digest of 2026-11-02"
    assert "80 harbor: the key" in message.text
    assert "It is with me" not in message.text
    assert message.text.endswith("https://inbox.example.org/digest?day=2026-11-02")
    long = digest_message({"2026-11-02": [markdown * 500], "2026-11-03": [""]}, URL)
    assert long.title == "Digest of 2026-11-02 to 2026-11-03"
    assert len(long.text) < LONGEST_TEXT + 200
    assert long.text.count("/digest?day=") == 2


def test_trouble_is_counted_and_says_what_to_do() -> None:
    message = trouble_message("dead_letters", [f"ana-slack: import {n}" for n in range(12)])
    assert message.title == "Communicator: 12 new dead letters"
    assert "and 2 more" in message.text
    assert "communicator dead-letters list" in message.text
