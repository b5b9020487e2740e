"""Who analyses and drafts for an account: the live way, or another that is to be compared.

Belongs here: putting together analyser and reader out of what is configured. Does not belong
here: materialising what they make (`analyses.py`, `drafted_replies.py`), comparing
(`comparison.py`, `shadows.py`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

from communicator_pipeline.analysis import DEFAULT_TAXONOMY, OfflineAnalyser, Taxonomy
from communicator_pipeline.analysis.by_model import Analyser
from communicator_pipeline.chain.learnt_labels import stored
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.drafting.by_model import Drafter, Voice
from communicator_pipeline.drafting.memory import ReplyMemory
from communicator_pipeline.language_model import LanguageModel, open_model
from communicator_pipeline.language_model.configuration import ModelsConfig
from communicator_pipeline.language_model.conversations import ConversationAsker
from communicator_pipeline.language_model.model import model_of
from communicator_pipeline.language_model.withholding import Withholding
from communicator_pipeline.prompts import PromptVersion, current, load
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.settings import Settings


@dataclass(frozen=True)
class Variant:
    """One way to analyse and draft. What is not given is as it is live."""

    name: str = ""  # "" is the live one; else a slug, part of the lake's folder
    prompts: tuple[tuple[str, str], ...] = ()  # purpose → version
    models: ModelsConfig | None = None
    memories: bool = True  # whether drafts follow what was learnt
    only_kept: bool = False  # only answers that were given before: nothing over the network

    @property
    def is_live(self) -> bool:
        """Whether it is what people see that is made this way."""
        return not self.name

    def asset(self, asset: str) -> str:
        """The name under which the lake keeps an asset made this way."""
        return f"{asset}@{self.name}" if self.name else asset

    def prompt(self, stores: Stores, purpose: str) -> PromptVersion:
        """The version of a prompt to use; raises `NoSuchPrompt`."""
        chosen = dict(self.prompts).get(purpose)
        return load(purpose, chosen) if chosen else current(stores.database, purpose)

    def model(self, stores: Stores) -> LanguageModel | None:
        """The models to ask; None: the offline analyser and drafter do everything."""
        if self.models is not None:
            return model_of(stores, self.models, self.only_kept)
        return open_model(stores, self.only_kept)


LIVE = Variant()


def taxonomy_of(settings: Settings) -> Taxonomy:
    """The categories that the user's conversations are sorted into."""
    value = settings.get("taxonomy")
    return DEFAULT_TAXONOMY if value is None else Taxonomy.model_validate(value)


def withholding_of(settings: Settings) -> Withholding:
    """What of the user's conversations no model is shown."""
    value = settings.get("withhold")
    return Withholding() if value is None else Withholding.model_validate(value)


def payer_of(stores: Stores, account: str) -> str:
    """Whose budget the account's questions are paid from: its first owner's."""
    return account_owner(stores.database, account) or ""


def analyser_of(stores: Stores, account: str, variant: Variant = LIVE) -> Analyser:
    """Who analyses the account's conversations."""
    user_id = payer_of(stores, account)
    settings = Settings(stores.database, user_id or None).at_once()
    taxonomy, people = taxonomy_of(settings), settings.priority_people()
    offline = _offline(taxonomy, people).following(stored(stores, account)[0].model)
    asker = _asker(stores, account, user_id, settings, variant, "analyse")
    return Analyser(offline, taxonomy, people, asker)


def untrained_of(stores: Stores, account: str) -> OfflineAnalyser:
    """The account's offline analyser as if nobody had ever corrected it."""
    settings = Settings(stores.database, payer_of(stores, account) or None)
    return _offline(taxonomy_of(settings), settings.priority_people())


MOST_REMEMBERED = 5_000
"""Conversations in which the owner answered, the newest: older ones speak of what was."""


def drafter_of(stores: Stores, account: str, variant: Variant = LIVE) -> Drafter:
    """Who drafts for the account's conversations. Reads what the owner answered before: that is
    the costly part, and put off until something is drafted."""
    user_id = payer_of(stores, account)
    settings = Settings(stores.database, user_id or None).at_once()
    voice = Voice(settings.tone(), settings.signature() or "", tuple(settings.languages()))

    @cache
    def memory() -> ReplyMemory:
        answered = Transcripts.answered(stores, account, MOST_REMEMBERED)
        return ReplyMemory.from_transcripts(answered)

    return Drafter(memory, voice, _asker(stores, account, user_id, settings, variant, "draft"))


def _asker(
    stores: Stores,
    account: str,
    user_id: str,
    settings: Settings,
    variant: Variant,
    purpose: str,
) -> ConversationAsker | None:
    """Who asks a model about the account's conversations; None where no model is to be asked."""
    model = variant.model(stores)
    if model is None:
        return None
    prompt, compact = variant.prompt(stores, purpose), variant.prompt(stores, "compact")
    rules = withholding_of(settings)
    return ConversationAsker(model, prompt, compact, rules, account, user_id)


_KEPT = threading.local()  # an analyser remembers words as it reads, so each thread has its own


def _offline(taxonomy: Taxonomy, priority_people: frozenset[str]) -> OfflineAnalyser:
    """The thread's analyser if it still fits: its phrase table alone takes a tenth of a second."""
    kept: tuple[Taxonomy, frozenset[str], OfflineAnalyser] | None = getattr(_KEPT, "one", None)
    if kept is None or kept[:2] != (taxonomy, priority_people):
        kept = (taxonomy, priority_people, OfflineAnalyser(taxonomy, priority_people))
        _KEPT.one = kept
    return kept[2]
