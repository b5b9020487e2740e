"""How long X thinks that a text is: pure.

Belongs here: X's weights. Does not belong here: cutting a text into parts (`delivery/`).

https://docs.x.com/fundamentals/counting-characters and the configuration of X's own twitter-text,
version 3 (https://github.com/twitter/twitter-text/blob/master/config/v3.json), read 2026-11: code
points of four ranges weigh 100, all others 200, an emoji weighs 200 as a whole, a link 2,300;
100 are one of the 280; the text is counted in Unicode's form NFC.

Approximations, each towards the longer: a link without a scheme counts where its last part is one
of the common top-level domains; a sequence that is joined like an emoji counts as one only if it
begins with a pictograph.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_POST = 280
LINK = 23
_LIGHT = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))

_SCHEME = r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]}…]"
_BARE = (
    r"(?<![\w@./-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+"
    r"(?:com|org|net|edu|gov|io|co|me|info|biz|dev|app|ai|eu|uk|de|fr|es|it|nl|no|se|ch|at|ru|ua|"
    r"cn|jp|us|ca|au|br|in|pl|pt|tv|ly|gl|be|to|xyz|shop|blog|online|site)"
    r"(?![\w@-])(?:/[^\s<>\"']*[^\s<>\"'.,;:!?)\]}…])?"
)
LINKS = re.compile(f"{_SCHEME}|{_BARE}", re.IGNORECASE)

_PICTOGRAPH = (
    "[\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf"
    "\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001f1e5\U0001f200-\U0001faff]"
)
_PIECE = f"{_PICTOGRAPH}\ufe0f?[\U0001f3fb-\U0001f3ff]?[\U000e0020-\U000e007f]*"
_EMOJI = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PIECE}(?:\u200d{_PIECE})*"
)


def weighted_length(text: str) -> int:
    """How many of a post's 280 the text takes."""
    normal = unicodedata.normalize("NFC", text)
    without_links, links = LINKS.subn("", normal)
    without_emoji, emoji = _EMOJI.subn("", without_links)
    weights = sum(100 if _is_light(ord(sign)) else 200 for sign in without_emoji)
    return LINK * links + 2 * emoji + -(-weights // 100)


def has_link(text: str) -> bool:
    """Whether X would make a link of something in it, for which a post costs more."""
    return LINKS.search(text) is not None


def _is_light(point: int) -> bool:
    return any(first <= point <= last for first, last in _LIGHT)
