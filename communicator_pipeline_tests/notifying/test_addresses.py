"""Which addresses are taken, what is shown of them, and what a child process may reach."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from apprise.manager_plugins import NotificationManager

from communicator_pipeline.notifying.addresses import (
    SERVICES,
    NotAnAddress,
    is_private,
    private_allowed,
    shown,
)
from communicator_pipeline.notifying.one_message import PRIVATE
from communicator_pipeline.notifying.sending import send
from communicator_pipeline.notifying.wording import Message
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.notifying.ear import Ear, listening

HELLO = Message("Hello", "There is something.")
TOKEN = "AAEabcdefghijklmnopqrstuvwxyzabcdefg"


@pytest.fixture
def ear() -> Iterator[Ear]:
    with listening() as heard:
        yield heard


def test_every_service_that_is_taken_is_one_that_apprise_has_and_none_is_of_this_machine() -> None:
    known = NotificationManager()
    assert set(known.schemas()) >= SERVICES
    here = {"dbus", "glib", "gio", "gnome", "kde", "qt", "macosx", "windows", "syslog", "blink1"}
    assert not SERVICES & (here | {"fcm", "vapid", "rsyslog", "file", "python", "exec"})
    assert known["json"] is not None


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("json://kim:secret@example.org/hook", "json: JSON, example.org"),
        ("mailto://kim:secret@gmail.com", "mailto: E-Mail, gmail.com"),
        (f"tgram://123456789:{TOKEN}/42", "tgram: Telegram"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "slack: Slack"),
        ("ntfy://my-secret-topic", "ntfy: ntfy"),
    ],
)
def test_service_and_host_are_shown_and_nothing_else(url: str, what: str) -> None:
    assert shown(url, private=False) == what


@pytest.mark.parametrize(
    "url",
    [
        "dbus://",
        "syslog://",
        "macosx://",
        "windows://",
        "file:///etc/passwd",
        "exec://ls",
        "https://example.org/secret",
        "json://",
        "slack://secret",
        "",
        "json://example.org/ secret",
        "json://example.org/\nsecret",
        "json://example.org/" + "x" * 3_000,
        "json://[::1",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#c?template=/etc/passwd",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?templ%61te=/etc/passwd",
        "mailto://kim:secret@gmail.com?pgp=sign&pgpprv=/etc/ssl/private/key",
        "json://example.org/?redirect=yes",
    ],
)
def test_what_is_not_taken_is_refused_in_words_that_do_not_quote_it(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(NotAnAddress) as refused:
        shown(url, private=True)
    assert "secret" not in str(refused.value)
    assert "passwd" not in str(refused.value)
    assert "secret" not in caplog.text
    assert "secret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST.", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::1]",
     "[fd00::1]", "[::ffff:10.0.0.1]", "0.0.0.0", "100.64.0.1"],
)  # fmt: skip
def test_an_address_here_is_refused_where_private_ones_are_not_allowed(host: str) -> None:
    with pytest.raises(NotAnAddress, match="administrator can allow it"):
        shown(f"json://{host}/x", private=False)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("64:ff9b::a00:1", True),
        ("2002:a00:1::", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%eth0", True),
        ("224.0.0.1", True),
    ],
)
def test_private_addresses_are_known_in_any_notation(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_private_addresses_are_for_one_user_alone_unless_it_is_said(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = stores.database
    assert private_allowed(database)
    add_user(database, "bo", "Bo")
    assert not private_allowed(database)
    Settings(database, None).set("private_targets", True)
    assert private_allowed(database)
    monkeypatch.setenv("COMMUNICATOR_PRIVATE_TARGETS", "no")
    assert not private_allowed(database)


def test_a_message_arrives_over_a_socket(ear: Ear) -> None:
    assert send(ear.url, HELLO, True) == ""
    assert ear.heard == [(HELLO.title, HELLO.text)]


def test_what_the_service_says_is_told_in_our_words(ear: Ear) -> None:
    ear.status = 403
    assert send(ear.url, HELLO, True) == "the service answered 403 Forbidden"


def test_nobody_there_is_said_without_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert send(f"json://127.0.0.1:{port}/x", HELLO, True) == "the service could not be reached"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
def test_a_name_that_leads_here_is_not_followed_where_it_may_not(ear: Ear, host: str) -> None:
    """2130706433 is how `inet_aton` may spell 127.0.0.1, which no check of the text sees."""
    url = ear.url.replace("127.0.0.1", host)
    assert send(url, HELLO, False) == PRIVATE
    assert ear.heard == []


def test_no_redirect_is_followed(ear: Ear) -> None:
    with listening() as inner:
        ear.status, ear.location = 307, f"http://127.0.0.1:{inner.server.server_port}/"
        assert send(ear.url, HELLO, True)
        assert inner.heard == []
    assert len(ear.heard) == 1


def test_a_child_reads_no_file_of_the_machine_and_starts_nothing(tmp_path: Path) -> None:
    from communicator_pipeline.notifying.one_message import Kept

    kept = Kept(private=True)
    secret = tmp_path / "secret"
    for event, args in (
        ("open", (str(secret), "r", 0)),
        ("open", ("/etc/passwd", "rb", 0)),
        ("open", (str(Path(__file__).parents[2] / ".communicator/credentials.key"), "r", 0)),
        ("open", ("/etc/ssl/../passwd", "r", 0)),
        ("open", ("/etc/ssl/x", "w", 0)),
        ("subprocess.Popen", ("ls", ["ls"], None, None)),
        ("os.system", ("ls",)),
    ):
        with pytest.raises(PermissionError):
            kept(event, args)
    kept("open", ("/etc/ssl/certs/ca-certificates.crt", "r", 0))
    kept("socket.connect", (None, ("127.0.0.1", 80)))
