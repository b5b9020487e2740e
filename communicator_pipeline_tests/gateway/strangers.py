"""Conversations in which everything that a stranger can choose tries to become a script.

Belongs here: the payloads and the rows that carry them. Does not belong here: looking at the pages
(`test_rendering.py` without a browser, `peers/test_inbox_browser.py` with one).
"""

from __future__ import annotations

from typing import Any

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Channel, Person, know_channels, know_people
from communicator_pipeline.storage.inbox import PublishedDay, publish
from communicator_pipeline_tests.delivery.world import ACCOUNT, START

CALL = "window.pwned=1"
ELSEWHERE = "https://elsewhere.example"

PAYLOADS = (
    f"<script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f"<svg/onload={CALL}>",
    f'"><script>{CALL}</script>',
    f"'><img src=x onerror={CALL}>",
    f'" autofocus onfocus="{CALL}',
    f"' onmouseover='{CALL}",
    f"javascript:{CALL}",
    f'https://x.example/" onclick="{CALL}',
    f"https://x.example/'onmouseover='{CALL}",
    f"https://x.example/<script>{CALL}</script>",
    f"</textarea><script>{CALL}</script>",
    f"</title><script>{CALL}</script>",
    f"</style><script>{CALL}</script>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'>",
    f"<iframe src=javascript:{CALL}>",
    f"<a href=javascript:{CALL}>a</a>",
    f"<form action=javascript:{CALL}><input type=submit autofocus>",
    f"<details open ontoggle={CALL}>",
    f"<body onload={CALL}>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={CALL}>",
    f"<img src={ELSEWHERE}/pixel.png>",
    f"![picture]({ELSEWHERE}/pixel.png)",
    f"<link rel=stylesheet href={ELSEWHERE}/s.css>",
    f"<style>@import '{ELSEWHERE}/s.css'</style>",
    f"<meta http-equiv=refresh content='0;url={ELSEWHERE}'>",
    f"<div hx-get='{ELSEWHERE}' hx-trigger='load'>x</div>",
    f"<div hx-on:load='{CALL}' hx-trigger='load' hx-get='/inbox/list'>x</div>",
    f"<p data-hx-on--load='{CALL}'>x</p>",
    f"<base href='{ELSEWHERE}/'>",
    "{{ 7 * 7 }}{% for x in [1] %}{{ x }}{% endfor %}",
    f"\u202e<script>{CALL}</script>\u202c",
    f"<scr\u200bipt>{CALL}</scr\u200bipt>",
    f"<\x00script>{CALL}</script>",
)
"""With `CALL` or a request to `ELSEWHERE` if they work."""

FIELDS = (
    "author_name", "channel", "text", "file", "summary", "category", "draft", "gap", "reason",
    "flag",
)  # fmt: skip
"""Where a payload stands. 34 × 10 of them."""


def plant(stores: Stores) -> int:
    """One conversation for each payload and field, in ana's box; returns how many."""
    payloads = [p.replace("\x00", "\ufffd") for p in PAYLOADS]
    planted = [(field, payload) for field in FIELDS for payload in payloads]
    messages, analyses, drafts = [], [], []
    moment = START.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for number, (field, payload) in enumerate(planted):

        def put(name: str, other: str, field: str = field, payload: str = payload) -> str:
            return payload if field == name else other

        channel = f"chat-{number}"
        know_channels(
            stores.database,
            ACCOUNT,
            [Channel(channel, put("channel", "General"), "channel", START)],
        )
        author = f"kim-{number}"
        know_people(stores.database, ACCOUNT, [Person(author, put("author_name", "Kim"), START)])
        files = [{"name": put("file", "plan.pdf"), "size": 1, "kind": "file", "url": ""}]
        messages.append(_message(channel, number, author, put("text", "Hello"), moment, files))
        analyses.append(
            _analysis(channel, number, moment)
            | {
                "summary": put("summary", "Kim says hello"),
                "category": put("category", "question"),
                "category_reason": put("reason", "because"),
                "priority_reasons": [put("reason", "+10 every conversation")],
                "needs_reply_reason": put("reason", "because"),
                "flags": [put("flag", "links")],
            }
        )
        drafts.append(
            {
                "conversation_id": f"c{number}",
                "version": 1,
                "outcome": "needs_fill" if field == "gap" else "ready",
                "text": put("draft", "Hello to you"),
                "language": "en",
                "gaps": [put("gap", "")] if field == "gap" else [],
                "rests_on": [f"{channel}:{number}"],
                "reason": put("reason", "a reason"),
                "flags": [put("flag", "")] if field == "flag" else [],
                "confidence": 0.9,
                "model": "test",
                "prompt": "",
                "stood_in": "",
                "withheld": [],
            }
        )
    assert publish(
        stores.database,
        PublishedDay(ACCOUNT, moment[:10], 2, "planted", messages, analyses, drafts),
    )
    return len(planted)


def _message(
    channel: str, number: int, author: str, text: str, moment: str, files: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "message_id": f"{channel}:{number}",
        "channel_id": channel,
        "sent_at": moment,
        "author_id": author,
        "author_name": author,
        "author_is_bot": False,
        "kind": "message",
        "text": text,
        "thread_id": None,
        "reply_to": None,
        "attachments": files,
        "reactions": [],
        "edited_at": None,
        "deleted": False,
        "version": 1,
        "conversation_id": f"c{number}",
        "parent_message_id": None,
        "link_reason": "root",
        "link_score": 1.0,
        "link_why": "starts a conversation",
    }


def _analysis(channel: str, number: int, moment: str) -> dict[str, Any]:
    return {
        "conversation_id": f"c{number}",
        "as_of": moment,
        "channel_id": channel,
        "started_at": moment,
        "last_message_at": moment,
        "last_author": "kim",
        "message_count": 1,
        "people": ["kim"],
        "language": "en",
        "priority": 50,
        "needs_reply": True,
        "needs_reply_score": 0.9,
        "waiting_since": moment,
        "summary_message_ids": [f"{channel}:{number}"],
        "sentiment": 0.0,
        "confidence": 0.9,
        "model": "test",
        "prompt": "",
        "stood_in": "",
        "withheld": [],
    }
