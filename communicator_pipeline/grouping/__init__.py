"""Messages grouped into conversations: a pure function, the same whoever computes it and when.

Belongs here: explicit links (native threads, replies, what people merged and split by hand),
inferred links, membership and what one stretch hands over to the next. Does not belong here:
reading messages and writing membership (`storage/`, `assets/`), keeping what people said
(`storage/corrections.py`).

- `links.py`: `group`, explicit links and membership
- `carry.py`: what one stretch hands over to the next
- `flow.py`: a channel's messages as arrays: who speaks when, to whom
- `linker.py`: which earlier message a message belongs to: by a gap, by a rule, by `linker.npz`
- `features.py`, `trees.py`: what the learnt linker looks at, and its arithmetic
- `reasons.py`: why, in words
- `cues.py`: function words in several languages
- `arrow.py`: Arrow, untyped
- `train.py`, `restyle.py`, `boosting.py`, `scores.py`: how `linker.npz` came to be, and how good
  it is; nothing else imports them
"""

from communicator_pipeline.grouping.linker import (
    GapLinker,
    KindLinker,
    Linker,
    RuleLinker,
    default_linker,
)
from communicator_pipeline.grouping.links import Placed, explicit_parents, group
from communicator_pipeline.grouping.reasons import LinkReason

__all__ = [
    "GapLinker",
    "KindLinker",
    "LinkReason",
    "Linker",
    "Placed",
    "RuleLinker",
    "default_linker",
    "explicit_parents",
    "group",
]
