"""How a page is made: templates, filters for strangers' text, the headers that keep it in.

Belongs here: everything that stands between a text from outside and the browser. Does not belong
here: what a page shows (`signing_in.py`, `inbox.py`).

A stranger's text is escaped wherever it stands: templates escape by themselves, and `linked` is the
only filter that makes markup. Scripts and styles run by nonce only, nothing is loaded from
elsewhere.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from communicator_pipeline.gateway.identity import Identity

STATIC = Path(str(files("communicator_pipeline.gateway.pages"))) / "static"

_LINK = re.compile(r"https?://[^\s<>\"'`\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+")
_UNSEEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")


def linked(text: str) -> Markup:
    """A stranger's text as markup: escaped, with its links to be clicked and shown in full, and
    with signs that hide or turn round what follows made visible."""
    made, end = Markup(""), 0
    for match in _LINK.finditer(text):
        link = match.group().rstrip(".,;:!?)]}»")
        made += _shown(text[end : match.start()])
        made += Markup(
            '<a href="{0}" rel="noopener noreferrer nofollow" target="_blank">{0}</a>'
        ).format(link)
        end = match.start() + len(link)
    return made + _shown(text[end:])


def _shown(text: str) -> Markup:
    made, end = Markup(""), 0
    for match in _UNSEEN.finditer(text):
        made += escape(text[end : match.start()])
        made += Markup('<span class="unseen" title="a hidden sign, U+{0:04X}">·</span>').format(
            ord(match.group())
        )
        end = match.end()
    return made + escape(text[end:])


def ago(text: str | None) -> str:
    """How long ago a time in the database was, in its largest unit."""
    if not text:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now"


def safe_name(name: str) -> str:
    """A file name from outside that can neither leave its folder nor pose as another kind."""
    plain = _UNSEEN.sub("", name).replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(sign if sign.isprintable() else "_" for sign in plain).strip(". ")
    return plain[:150] or "file"


def query(**values: object) -> str:
    """`?a=b` of what is set."""
    kept = {name: value for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(kept, quote_via=quote)}" if kept else ""


@cache
def asset(name: str) -> str:
    """A static file's address, which changes with its content."""
    return f"/static/{sha256((STATIC / name).read_bytes()).hexdigest()[:12]}/{name}"


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("communicator_pipeline.gateway.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"linked": linked, "ago": ago, "safe_name": safe_name}
    found.globals |= {"asset": asset, "query": query}
    return found


_TEMPLATES = _environment()


def page(
    request: Request,
    template: str,
    identity: Identity | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> Response:
    """A page, or a part of one, with the headers that keep strangers' text harmless."""
    nonce = secrets.token_urlsafe(16)
    text = _TEMPLATES.get_template(template).render(
        request=request, me=identity, nonce=nonce, csrf=identity.csrf if identity else "", **values
    )
    return HTMLResponse(text, status, safe_headers(nonce) | (headers or {}))


def safe_headers(nonce: str) -> dict[str, str]:
    """No script or style without the nonce, nothing from elsewhere, in nobody's frame."""
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
