"""Which language a few words are in."""

from __future__ import annotations

import pytest

from communicator_pipeline.analysis.language import LanguageModel
from communicator_pipeline.analysis.tokens import prose, raw_tokens

MODEL = LanguageModel()


def language_of(text: str) -> str:
    return MODEL.identify(raw_tokens(prose(text)))[0]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("can u chk the pr plz", "en"),
        ("sounds good, see you there", "en"),
        ("wo bist du grad", "de"),
        ("Deploy ist durch, schaut gut aus", "de"),
        ("manana te digo", "es"),
        ("vale, nos vemos luego", "es"),
        ("t'es où ?", "fr"),
        ("le build est cassé", "fr"),
        ("ты где сейчас", "ru"),
        ("как сам", "ru"),
        ("ти де зараз", "uk"),
        ("де звіт", "uk"),
        ("完成了吗", "zh"),
        ("这个PR今天能merge吗", "zh"),
        ("請問你明天有空嗎", "zh"),
        ("obrigado, até amanhã", "pt"),
        ("ありがとうございます、確認します", "ja"),
        ("안녕하세요", "ko"),
        ("dziękuję bardzo za pomoc", "pl"),
        ("grazie mille, ci vediamo domani", "it"),
    ],
)
def test_short_chat_messages_are_recognised(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text", ["", "👍🎉", "https://example.com/a?b=c", "12:30", "<@U123>", "..."]
)
def test_what_holds_no_words_is_undetermined(text: str) -> None:
    assert language_of(text) == "und"


def test_code_and_links_do_not_make_a_german_message_english() -> None:
    text = "schau dir das mal an: ```for i in range(10): print('hello world this is')``` http://the.of.com"
    assert language_of(text) == "de"


def test_the_longer_part_of_a_mixed_message_decides() -> None:
    assert language_of("Habe das Ticket angelegt, please review wenn du Zeit hast") == "de"
