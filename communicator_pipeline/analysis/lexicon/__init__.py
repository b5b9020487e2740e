"""The word lists of every language that the offline analyser and drafter know.

A new language is one new file beside `en.py` and one new line below.
"""

from communicator_pipeline.analysis.lexicon import de, en, es, fr, ru, uk, zh
from communicator_pipeline.analysis.lexicon.entry import Lexicon, phrases

LEXICONS: dict[str, Lexicon] = {
    module.LEXICON.language: module.LEXICON for module in (en, de, es, fr, ru, uk, zh)
}

__all__ = ["LEXICONS", "Lexicon", "phrases"]
