"""What must be open before anything leaves.

Belongs here: the environment's and the account's half of the gate, the kill switches, in words.
Does not belong here: the claim's own look at them, which is SQL (`storage/outbox.py`).

Nothing leaves unless two things say so: the environment of the process that sends, and the
account's own setting. A test, a copy of the data or a colleague's laptop lacks one of them. An
account of the platform `sandbox` reaches nobody and is open by itself.
"""

from __future__ import annotations

import os

from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.outbox import Outgoing

SENDING_VARIABLE = "COMMUNICATOR_SENDING"
SANDBOX = "sandbox"


def environment_is_open() -> bool:
    """Whether this process may send outwards."""
    return os.environ.get(SENDING_VARIABLE, "") == "open"


def gates_of(
    database: Database, account: str, can_send: bool, environment_opens: bool | None = None
) -> list[str]:
    """Why a reply of the account would not leave now, in sentences that say what to do; empty if
    nothing holds it."""
    environment = environment_is_open() if environment_opens is None else environment_opens
    row = database.execute(
        "SELECT p.platform, c.settings ->> 'sending' AS sending, c.account IS NOT NULL AS "
        "connected, (SELECT why FROM sending_switches WHERE scope = 'installation') AS all_why, "
        "(SELECT why FROM sending_switches WHERE scope = 'account:' || p.account) AS why "
        "FROM accounts AS p LEFT JOIN connections AS c USING (account) WHERE p.account = ?",
        (account,),
    )[0]
    is_sandbox = row["platform"] == SANDBOX
    found = []
    if not can_send:
        found.append(
            f"{account} has no way to send: `communicator accounts add` connects an account"
            if not row["connected"]
            else f"{account} cannot connect: `communicator accounts test {account}` says why"
        )
    if row["all_why"] is not None:
        found.append(stopped(None, row["all_why"]))
    if row["why"] is not None:
        found.append(stopped(account, row["why"]))
    opens = (row["sending"] or ("open" if is_sandbox else "")) == "open"
    if not opens or not (is_sandbox or environment):
        found.append(closed(account, is_sandbox or environment, opens))
    return found


def closed(account: str, environment_opens: bool, account_opens: bool) -> str:
    """The dry run, and which of the two things end it."""
    missing = []
    if not environment_opens:
        missing.append(f"start the worker with {SENDING_VARIABLE}=open")
    if not account_opens:
        missing.append(f"run `communicator accounts set {account} sending open`")
    return f"dry run, nothing leaves: to send, {' and '.join(missing)}"


def stopped(account: str | None, why: str) -> str:
    """The kill switch."""
    what = f"sending is stopped for {account}" if account else "all sending is stopped"
    return f"{what} ({why}): resume it to go on" if why else f"{what}: resume it to go on"


def held_by(reply: Outgoing, environment_opens: bool) -> str | None:
    """What holds a reply whose time has come, in words; None if nothing does."""
    if reply.all_stopped:
        return stopped(None, "")
    if reply.account_stopped:
        return stopped(reply.delivery.account, "")
    open_here = environment_opens or reply.is_sandbox
    if not (open_here and reply.account_opens):
        return closed(reply.delivery.account, open_here, reply.account_opens)
    return None
