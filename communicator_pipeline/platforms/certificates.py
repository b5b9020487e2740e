"""Whom the clients trust: one TLS context for all of them.

Reading the certificate authorities takes 57 ms of processor time, and httpx does it for every
client unless it is given a context: a poll of 100 accounts would cost six seconds
(`benchmarks/polling.py`).
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """The context, as httpx would make it; `SSL_CERT_FILE` counts."""
    return httpx.create_ssl_context()
