"""Credentials at rest: encrypted with keys that are not in the database.

Belongs here: the keys, sealing and opening, taking secrets out of texts. Does not belong here:
whose credentials they are (`connections.py`).

The keys come from `COMMUNICATOR_KEYS` (Fernet keys, commas between them, the newest first) or
from a file in Communicator's home that only its owner may read. Whoever has the database alone,
or a backup of it, cannot log in anywhere.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

KEYS_VARIABLE = "COMMUNICATOR_KEYS"

_SHORTEST_SECRET = 6  # characters: shorter ones stand in ordinary text by chance


class KeyMissing(ValueError):
    """The keys that are here do not open what is sealed; the message says what to do."""


class Keyring:
    """The keys of an installation, newest first. Made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seal(self, values: Mapping[str, str]) -> str:
        """The values as encrypted text, under the newest key."""
        return self._fernet(make=True).encrypt(orjson.dumps(dict(values))).decode()

    def open(self, sealed: str) -> dict[str, str]:
        """What was sealed, under any of the keys; raises `KeyMissing`."""
        try:
            values: dict[str, str] = orjson.loads(self._fernet().decrypt(sealed.encode()))
        except InvalidToken:
            raise KeyMissing(
                f"the credentials were encrypted with a key that is not in {self._where()}: put "
                "the key back, or log in again with communicator accounts login ACCOUNT"
            ) from None
        return values

    def add_key(self) -> None:
        """A new key in front: what is sealed from now on needs it. The old ones still open."""
        if os.environ.get(KEYS_VARIABLE):
            raise ValueError(
                f"the keys come from {KEYS_VARIABLE}: put a new one in front of it yourself "
                f"({Fernet.generate_key().decode()}), then run this again with --no-new-key"
            )
        with self._locked():
            self._write([Fernet.generate_key().decode(), *self._keys()])

    def drop_old_keys(self, sealed: Callable[[], Iterable[str]] = tuple) -> int:
        """Keep the newest key only; returns how many went. `sealed` gives all that must open with
        it alone: raises `KeyMissing`, and drops none, if something does not."""
        if os.environ.get(KEYS_VARIABLE):
            return 0
        with self._locked():
            keys = self._keys()
            newest = MultiFernet([Fernet(key) for key in keys[:1]])
            for one in sealed():
                try:
                    newest.decrypt(one.encode())
                except InvalidToken:
                    raise KeyMissing(
                        "something was encrypted with an old key just now: run this again with "
                        "--no-new-key"
                    ) from None
            self._write(keys[:1])
        return len(keys) - 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """No key is dropped meanwhile: what is sealed here can be kept here."""
        self._fernet(make=True)
        with self._locked():
            yield

    def _fernet(self, make: bool = False) -> MultiFernet:
        keys = self._keys()
        if not keys and make:
            with self._locked():
                keys = self._keys()
                if not keys:
                    keys = [Fernet.generate_key().decode()]
                    self._write(keys)
        if not keys:
            raise KeyMissing(
                f"there is no key in {self._where()}: put it back from where you keep it, or log "
                "in again with communicator accounts login ACCOUNT"
            )
        try:
            return MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise KeyMissing(
                f"what stands in {self._where()} is not a list of Fernet keys"
            ) from None

    def _where(self) -> str:
        return KEYS_VARIABLE if os.environ.get(KEYS_VARIABLE) else str(self.path)

    def _keys(self) -> list[str]:
        given = os.environ.get(KEYS_VARIABLE)
        if given is None and self.path.exists():
            given = self.path.read_text()
        return [key for key in (given or "").replace(",", "\n").split() if key]

    def _write(self, keys: Iterable[str]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(keys) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def _locked(self) -> _Lock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return _Lock(self.path.with_name(f".{self.path.name}.lock"))


class _Lock:
    """Two processes that make the first key together would lose one of them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, should a library or a platform have quoted one."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may stand within another
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "•••")
    return text
