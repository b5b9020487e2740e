"""Workers KV: small values that may be a minute old, over Cloudflare's REST API.

Belongs here: getting, putting, listing and deleting values, KV's limits, remembering what was
read. Does not belong here: what the values mean; how often Cloudflare may be asked
(`cloudflare.py`).

A write is seen elsewhere after a minute or more, and so is that there is no value
(https://developers.cloudflare.com/kv/concepts/how-kv-works/, read 2026-11). So nothing that must
be true at once stands on it: no lock, no deduplication, no revocation. Limits:
https://developers.cloudflare.com/kv/platform/limits/ (read 2026-11).
"""

from __future__ import annotations

import base64
import threading
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.metering import count

if TYPE_CHECKING:
    from cloudflare.pagination import SyncCursorLimitPagination
    from cloudflare.types.kv.namespace_bulk_update_params import Body
    from cloudflare.types.kv.namespaces import Key

LONGEST_KEY = 512  # bytes
LARGEST_VALUE = 25 * 2**20  # bytes
SHORTEST_TTL = 60  # seconds
MOST_GOT = 100  # keys in one call
MOST_PUT = 10_000  # pairs, or keys to delete, in one call
LARGEST_PUT = 50_000_000
"""Bytes of values in one call, before base64 makes a third more of them: a call may have 100 MB."""

MOST_TRIES = 3
"""Of keys that a bulk write says it could not write; it asks to try these again."""

SAME_KEY_AGAIN = 1.0
"""Seconds between two writes of a key: who is too early gets a 429 that does not say how long."""

_UNREADABLE = "�"


class KvFailed(Exception):
    """KV did not do it, or only a part; the message says what, and what to do."""


class KvStore:
    """One namespace. Safe for threads.

    `remember`: for so many seconds a value that this process has read or written is not asked for
    again (an absence neither). 0: it always is.
    """

    def __init__(
        self,
        account: CloudflareAccount,
        namespace_id: str,
        remember: float = 0.0,
        meter: Callable[[str, int], None] = count,
    ) -> None:
        self._meter = meter
        self.account = account
        self.namespace_id = namespace_id
        self._remember = remember
        self._known: dict[str, tuple[float, bytes | None]] = {}  # until when, and the value
        self._knowing = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none, or none any more."""
        known = self._recall([key])
        if key in known:
            return known[key]
        value = self._get(_checked(key))
        self._note({key: value})
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those that have one, a hundred to a call."""
        known = self._recall(keys)
        wanted = [_checked(key) for key in dict.fromkeys(keys) if key not in known]
        for part in _parts(wanted, MOST_GOT):
            found = self._get_together(part)
            self._note({key: found.get(key) for key in part})
            known |= found
        return {key: value for key in keys if (value := known.get(key)) is not None}

    def put(self, key: str, value: bytes, ttl_seconds: int | None = None) -> None:
        """Write a value that is gone after `ttl_seconds` (at least 60), or stays. KV takes one
        write a second of the same key. Raises ValueError for what KV would not take."""
        self._must_fit(key, value, ttl_seconds)
        more: dict[str, Any] = {} if ttl_seconds is None else {"expiration_ttl": ttl_seconds}
        client = self.account.client()
        self._meter("kv writes", 1)
        self.account.call(
            lambda: client.kv.namespaces.values.update(key, **self._where(), value=value, **more),
            True,
            SAME_KEY_AGAIN,
        )
        self._note({key: value})

    def put_many(self, values: Mapping[str, bytes], ttl_seconds: int | None = None) -> None:
        """Write many, in as few calls as KV's limits allow. Raises ValueError for what KV would
        not take (nothing is written then), and `KvFailed` if some are not written in the end."""
        for key, value in values.items():
            self._must_fit(key, value, ttl_seconds)
        for part in _calls(values):
            left: Sequence[str] = list(part)
            for _ in range(MOST_TRIES):
                if left:
                    left = self._put_together({key: part[key] for key in left}, ttl_seconds)
            self._must_be_none(left, "written")
            self._note(part)

    def delete(self, key: str) -> None:
        """Remove a value; no error if there is none."""
        from cloudflare import NotFoundError

        client = self.account.client()
        _checked(key)
        self._meter("kv deletes", 1)
        try:
            self.account.call(
                lambda: client.kv.namespaces.values.delete(key, **self._where()),
                True,
                SAME_KEY_AGAIN,
            )
        except NotFoundError as error:
            self._must_be_no_namespace_fault(error)
        self._note({key: None})

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove many. Raises `KvFailed` if some are not removed in the end."""
        for part in _parts([_checked(key) for key in dict.fromkeys(keys)], MOST_PUT):
            left: Sequence[str] = part
            for _ in range(MOST_TRIES):
                left = self._delete_together(left) if left else left
            self._must_be_none(left, "deleted")
            self._note(dict.fromkeys(part))

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, in order, a thousand to a call."""
        cursor = ""
        while True:
            page = self._page(prefix, cursor)
            for key in page.result or ():
                yield key.name
            cursor = (page.result_info and page.result_info.cursor) or ""
            if not cursor:
                return

    def _page(self, prefix: str, cursor: str) -> SyncCursorLimitPagination[Key]:
        more: dict[str, Any] = {}
        if prefix:
            more["prefix"] = prefix
        if cursor:
            more["cursor"] = cursor
        client = self.account.client()
        self._meter("kv lists", 1)
        return self.account.call(
            lambda: client.kv.namespaces.keys.list(**self._where(), limit=1_000, **more), True
        )

    def _get(self, key: str) -> bytes | None:
        from cloudflare import NotFoundError

        client = self.account.client()
        self._meter("kv reads", 1)
        try:
            return self.account.call(
                lambda: client.kv.namespaces.values.get(key, **self._where()).read(), True
            )
        except NotFoundError as error:
            self._must_be_no_namespace_fault(error)
            return None

    def _get_together(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Values of at most a hundred keys."""
        from cloudflare import APIStatusError

        if len(keys) == 1:
            value = self._get(keys[0])
            return {} if value is None else {keys[0]: value}
        client = self.account.client()
        self._meter("kv reads", len(keys))
        try:
            answer = self.account.call(
                lambda: client.kv.namespaces.bulk_get(**self._where(), keys=[*keys], type="text"),
                True,
            )
        except APIStatusError as error:
            if error.status_code != 413:
                raise
            half = len(keys) // 2  # together they are larger than an answer may be
            return self._get_together(keys[:half]) | self._get_together(keys[half:])
        found = {}
        for key, text in ((answer and answer.values) or {}).items():
            if isinstance(text, str):
                # KV gives many values at once only as text: what is none has this sign in it.
                value = self._get(key) if _UNREADABLE in text else text.encode()
                if value is not None:
                    found[key] = value
        return found

    def _put_together(self, values: Mapping[str, bytes], ttl_seconds: int | None) -> Sequence[str]:
        """Write at most what one call takes; returns the keys that were not written."""
        body: list[Body] = []
        for key, value in values.items():
            pair: Body = {
                "key": key,
                "value": base64.b64encode(value).decode(),
                "base64": True,
            }
            if ttl_seconds is not None:
                pair["expiration_ttl"] = ttl_seconds
            body.append(pair)
        client = self.account.client()
        self._meter("kv writes", len(values))
        answer = self.account.call(
            lambda: client.kv.namespaces.bulk_update(**self._where(), body=body),
            True,
            SAME_KEY_AGAIN,
        )
        return [key for key in (answer and answer.unsuccessful_keys) or () if key in values]

    def _delete_together(self, keys: Sequence[str]) -> Sequence[str]:
        """Remove at most what one call takes; returns the keys that were not removed."""
        client = self.account.client()
        self._meter("kv deletes", len(keys))
        answer = self.account.call(
            lambda: client.kv.namespaces.bulk_delete(**self._where(), body=list(keys)),
            True,
            SAME_KEY_AGAIN,
        )
        return (answer and answer.unsuccessful_keys) or ()

    def _where(self) -> dict[str, Any]:
        return {"account_id": self.account.account_id, "namespace_id": self.namespace_id}

    def _must_fit(self, key: str, value: bytes, ttl_seconds: int | None) -> None:
        _checked(key)
        if len(value) > LARGEST_VALUE:
            raise ValueError(
                f"the value of {key!r} has {len(value)} bytes, KV takes {LARGEST_VALUE}: keep it "
                "in R2"
            )
        if value.startswith(BOM_UTF8):
            raise ValueError(
                f"the value of {key!r} begins with a byte order mark, which KV takes off when it "
                "gives several values at once: take it off before"
            )
        if ttl_seconds is not None and ttl_seconds < SHORTEST_TTL:
            raise ValueError(
                f"{key!r} is to be kept for {ttl_seconds} s: KV takes {SHORTEST_TTL} s or more"
            )

    def _must_be_none(self, left: Sequence[str], done: str) -> None:
        if left:
            raise KvFailed(
                f"{len(left)} keys were not {done} in {MOST_TRIES} tries, {left[0]!r} among them: "
                "try again in a while"
            )

    def _must_be_no_namespace_fault(self, error: Any) -> None:
        """A 404 says that there is no such key, or no such namespace."""
        body = error.body if isinstance(error.body, dict) else {}
        codes = {one.get("code") for one in body.get("errors") or ()}
        if codes and _NO_KEY not in codes:
            raise KvFailed(
                f"Cloudflare knows no KV namespace {self.namespace_id}, or this token may not use "
                "it: check COMMUNICATOR_KV_NAMESPACE"
            ) from error

    def _recall(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        now = time.monotonic()
        with self._knowing:
            return {
                key: self._known[key][1]
                for key in keys
                if key in self._known and self._known[key][0] > now
            }

    def _note(self, values: Mapping[str, bytes | None]) -> None:
        if self._remember <= 0:
            return
        now = time.monotonic()
        with self._knowing:
            for key in [key for key, (until, _) in self._known.items() if until <= now]:
                del self._known[key]
            self._known |= {key: (now + self._remember, value) for key, value in values.items()}


_NO_KEY = 10009
"""The error code of "key not found"; that of a namespace that is not there is another."""


def _checked(key: str) -> str:
    size = len(key.encode())
    if not key or key in (".", ".."):
        raise ValueError(f"{key!r} is no key of KV")
    if size > LONGEST_KEY:
        raise ValueError(f"the key {key[:40]!r}… has {size} bytes, KV takes {LONGEST_KEY}")
    return key


def _parts(keys: Sequence[str], most: int) -> Iterator[list[str]]:
    rest = iter(keys)
    while part := list(islice(rest, most)):
        yield part


def _calls(values: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """The pairs, cut into what one call takes."""
    part: dict[str, bytes] = {}
    size = 0
    for key, value in values.items():
        if part and (len(part) == MOST_PUT or size + len(value) > LARGEST_PUT):
            yield part
            part, size = {}, 0
        part[key] = value
        size += len(value)
    if part:
        yield part
