"""What a model is not shown, by example."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from pydantic import ValidationError

from communicator_pipeline.language_model.withholding import (
    Blocked,
    OwnPattern,
    Withholding,
    in_words,
)

ALL = Withholding(personal="redact")


def withheld(text: str, rules: Withholding = ALL) -> dict[str, int]:
    counted: Counter[str] = Counter()
    rules.shown(text, counted)
    return dict(counted)


# The numbers that card companies and PayPal publish for tests.
@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555555555554444",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6304000000000000",
        "4222222222222",
    ],
)
def test_a_card_number_is_known_by_its_check_digit(number: str) -> None:
    text = f"please charge {number}, thanks"
    counted: Counter[str] = Counter()
    assert Withholding().shown(text, counted) == "please charge [withheld: card number], thanks"
    assert in_words(counted) == ("1 × card number",)


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111112",  # the check digit is another
        "0000000000000000",
        "1111111111111111",
        "123456789012",  # too short
        "2026-11-03 09:12:44",
        "order 4111-1111",
    ],
)
def test_what_is_no_card_number_stays(number: str) -> None:
    assert Withholding().shown(number, Counter()) == number


# The examples of the IBAN registry (SWIFT, ISO 13616).
@pytest.mark.parametrize(
    "iban",
    [
        "GB29 NWBK 6016 1331 9268 19",
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "FR14 2004 1010 0505 0001 3M02 606",
        "ES91 2100 0418 4502 0005 1332",
        "NO93 8601 1117 947",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "UA21 3223 1300 0002 6007 2335 6600 1",
    ],
)
def test_a_bank_account_is_known_by_its_check_digits(iban: str) -> None:
    assert withheld(f"to {iban}.") == {"bank account": 1}
    assert Withholding().shown(iban, Counter()) == iban  # unless the user says so


@pytest.mark.parametrize("text", ["GB29 NWBK 6016 1331 9268 18", "AB12 CDEF GHIJ", "DE89"])
def test_what_is_no_bank_account_is_not_called_one(text: str) -> None:
    assert "bank account" not in withheld(text)


@pytest.mark.parametrize(
    "number",
    [
        "+49 170 1234567",
        "+1 (415) 555-0132",
        "0170 1234567",
        "030/1234567",
        "+380 44 123 45 67",
        "8 (495) 123-45-67",
        "+86 138 0013 8000",
    ],
)
def test_a_telephone_number_is_withheld_if_the_user_says_so(number: str) -> None:
    assert withheld(f"call {number} please") == {"telephone number": 1}
    assert Withholding().shown(number, Counter()) == number


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-03",
        "03.11.2026",
        "11/03/2026",
        "order 12345",
        "A-1234567",
        "1234567-AB",
        "at 10:30",
        "v1.2.3",
        "id_1234567",
        "192.168",
    ],
)
def test_dates_and_order_numbers_are_no_telephone_numbers(text: str) -> None:
    assert withheld(text) == {}


@pytest.mark.parametrize("text", ["kim@example.org", "k.m+x@mail.example.co.uk"])
def test_an_address_is_withheld_if_the_user_says_so(text: str) -> None:
    assert withheld(f"write to {text}!") == {"e-mail address": 1}
    assert withheld(f"write to {text}!", Withholding()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "sk_live_0123456789abcdefghij",
        "xoxb-123456789012-abcdef",
        "password: hunter2x!",
        "Passwort ist geheim-77",
        "пароль: qwerty-1",
        "密码:abc123!",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_is_withheld_by_itself(text: str) -> None:
    shown = Withholding().shown(f"here: {text} ok", Counter())
    assert "[withheld: password or key]" in shown
    assert text not in shown


def test_a_rule_may_block_and_may_allow() -> None:
    with pytest.raises(Blocked, match="it holds a card number"):
        Withholding(cards="block").shown("4111 1111 1111 1111", Counter())
    free = Withholding(cards="allow", secrets="allow")
    assert free.shown("4111111111111111 password: hunter2x!", Counter()) == (
        "4111111111111111 password: hunter2x!"
    )


@pytest.mark.parametrize(
    ("match", "text", "shown"),
    [
        ("PRJ-####", "about prj-1234 today", "about [withheld: own] today"),
        ("PRJ-####", "about PRJ-12", "about PRJ-12"),
        ("falcon*", "Project FALCON-9/x is late", "Project [withheld: own] is late"),
        ("a.c+(b)", "a.c+(b) abcb", "[withheld: own] abcb"),
        ("acme corp", "at Acme Corp.", "at [withheld: own]."),
        ("ab**cd", "abXcd abcd", "[withheld: own] [withheld: own]"),
        ("*secret", "the topsecret thing", "the [withheld: own] thing"),
        ("a*b*cd", "aXbb-b--cd e", "[withheld: own] e"),
    ],
)
def test_a_pattern_of_ones_own(match: str, text: str, shown: str) -> None:
    rules = Withholding(patterns=(OwnPattern(name="own", match=match),))
    assert rules.shown(text, Counter()) == shown


@pytest.mark.parametrize("match", ["*", "**", "a*", "* * ab", "*a*b*c*d*", "  #", "x" * 201])
def test_a_pattern_that_means_nothing_or_too_much_is_refused(match: str) -> None:
    with pytest.raises(ValidationError):
        OwnPattern(name="own", match=match)


_SLOW = (
    "1 " * 25_000,
    "1-" * 25_000,
    "4" * 50_000,
    "+(" * 25_000,
    "a." * 25_000,
    "a@" * 25_000,
    "a" * 50_000,
    "a@" + "b." * 25_000,
    "AB12" + " ABCD" * 10_000,
    "AB12" * 12_500,
    "sk-" * 16_000,
    "password is " * 4_000,
    "password" + " " * 50_000,
    "eyJaaaaaaaaaa." * 3_500,
    "xa" * 25_000,
    "xab" * 16_000,
    "-----BEGIN " + "A" * 50_000,
    "1234567890:AA" * 3_800,
)


_SLOWEST = "password:" + "=" * 20_000


def test_no_run_of_signs_takes_long() -> None:
    began = time.process_time()
    Withholding().shown(_SLOWEST, Counter())
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("text", _SLOW, ids=range(len(_SLOW)))
def test_no_text_takes_long(text: str) -> None:
    """50,000 characters: the pipeline's longest message. A rule that looks at every pair of places
    would take minutes."""
    rules = Withholding(
        personal="redact",
        patterns=(
            OwnPattern(name="own", match="x*a*b*c"),
            OwnPattern(name="digits", match="####*####*####*#"),
        ),
    )
    began = time.process_time()
    rules.shown(text, Counter())
    assert time.process_time() - began < 2.0
