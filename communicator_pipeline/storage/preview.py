"""Message text in Dagster's metadata: only for whoever is alone with it.

Dagster's UI has no login and its event log is kept: text that is put there can be read by
everybody who reaches the UI, for as long as the run is kept.
"""

from __future__ import annotations

from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.settings import Settings

DEMO_ACCOUNTS = "demo_accounts"
"""Setting of the installation: accounts whose messages are made up, for anybody to read."""


class PreviewRefused(ValueError):
    """`preview_text` was asked for where somebody else's messages would be shown."""


def refuse_preview(database: Database) -> None:
    """Raise `PreviewRefused` if real accounts of more than one user are here."""
    demo = set(Settings(database, None).get(DEMO_ACCOUNTS) or ())
    rows = database.execute("SELECT DISTINCT account, user_id FROM account_members")
    people = sorted({row["user_id"] for row in rows if row["account"] not in demo})
    if len(people) > 1:
        raise PreviewRefused(
            f"preview_text shows messages in Dagster's UI, which has no login, and this "
            f"installation has {len(people)} users ({', '.join(people)}): leave it off"
        )
