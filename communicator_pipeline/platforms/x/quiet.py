"""Whether an account's direct messages have gone quiet in a way that is no silence.

Belongs here: that one rule; pure. Does not belong here: which days had messages (the lake knows),
telling somebody (asset checks).

X has two systems of direct messages. The older one is what its API shows; X Chat is encrypted from
end to end, and a conversation that moves there looks as if it had ended
(https://docs.x.com/x-api/activity/event-payloads, read 2026-11: `chat.received` next to "Legacy DM
events").
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

QUIET = timedelta(days=14)
BEFORE = timedelta(weeks=8)


def direct_messages_went_quiet(days_with_dms: Sequence[date], today: date) -> str | None:
    """The alarm's sentence, or None: messages came in each of eight weeks, and none for 14 days.

    `days_with_dms` are the UTC days on which direct messages came or went, in any order.
    """
    days = {day for day in days_with_dms if day <= today}
    if not days:
        return None
    last = max(days)
    silence = today - last
    if silence < QUIET:
        return None
    first = last - BEFORE + timedelta(days=1)
    weeks = {(day - first).days // 7 for day in days if day >= first}
    if len(weeks) < BEFORE // timedelta(weeks=1):
        return None
    return (
        f"direct messages came every week until {last.isoformat()} and none has come for "
        f"{silence.days} days: they may have moved to X Chat, which is encrypted and cannot be "
        "read here; look into X, and answer there"
    )
