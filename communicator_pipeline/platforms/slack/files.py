"""Fetching attached files.

Belongs here: which addresses are asked, and with the token or without. Does not belong here: what
becomes of the content.

Files need the token (https://docs.slack.dev/reference/objects/file-object, read 2026-11), and
messages are written by strangers: so only Slack's own hosts are asked at all, and only those under
slack.com see the token, whatever is redirected to where. Without the scope `files:read`, Slack
answers with its login page and HTTP 200: that is not the file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import httpx

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.protocol import Unreachable, Wait
from communicator_pipeline.platforms.slack.asking import TIMEOUT, Api, retry_after

MOST_REDIRECTS = 3
_WITHOUT_TOKEN = ("slack-edge.com", "slack-files.com")
"""Slack's hosts for what is public: avatars, and files that somebody shared with the world."""


def download(api: Api, url: str, most: int) -> bytes:
    """A file's content. Raises `FileNotFoundError`, `ValueError` if it has more than `most` bytes,
    `Wait` and `Unreachable`."""
    try:
        with httpx.Client(timeout=TIMEOUT, verify=trusted(), follow_redirects=False) as http:
            address = url
            for _ in range(MOST_REDIRECTS + 1):
                headers = _headers(api, address)
                with http.stream("GET", address, headers=headers) as answer:
                    if not answer.is_redirect:
                        return _content(api, answer, address, most)
                    address = urljoin(address, answer.headers["location"])
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise Unreachable(f"Slack did not give the file: {type(error).__name__}") from None
    raise FileNotFoundError("Slack redirects to and fro instead of giving the file")


def _headers(api: Api, address: str) -> dict[str, str]:
    """The token, for hosts that may see it; raises `FileNotFoundError` for hosts not to ask."""
    try:
        target = urlsplit(address)
        host, port = (target.hostname or "").lower(), target.port
    except ValueError:
        raise FileNotFoundError("the file's address is none") from None
    ours = urlsplit(api.base_url)
    if (target.scheme, host, port) == (ours.scheme, ours.hostname, ours.port):
        return {"Authorization": f"Bearer {api.token}"}
    if target.scheme == "https" and port in (None, 443):
        if _is_under(host, "slack.com"):
            return {"Authorization": f"Bearer {api.token}"}
        if any(_is_under(host, domain) for domain in _WITHOUT_TOKEN):
            return {}
    raise FileNotFoundError("the file is kept outside of Slack, and is not fetched from there")


def _is_under(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)


def _content(api: Api, answer: httpx.Response, address: str, most: int) -> bytes:
    status = answer.status_code
    if status == 429:
        until = datetime.now(UTC) + retry_after(answer.headers.get("retry-after"))
        raise Wait(until, "Slack's limit on files", api.scope("files"))
    if status >= 500 or status == 408:
        raise Unreachable(f"Slack did not give the file: HTTP {status}")
    if status != 200:
        raise FileNotFoundError(
            f"Slack has no such file for this login (HTTP {status}): it is deleted, or the token "
            "lacks the scope files:read"
        )
    is_page = answer.headers.get("content-type", "").lower().startswith("text/html")
    if is_page and not urlsplit(address).path.lower().endswith((".html", ".htm")):
        raise FileNotFoundError(
            "Slack gave a web page instead of the file: the token lacks the scope files:read"
        )
    content = bytearray()
    for piece in answer.iter_bytes():
        content += piece
        if len(content) > most:
            raise ValueError(f"the file has more than {most} bytes")
    return bytes(content)
