"""`python healthy.py URL` or `python healthy.py worker`: exit code 0 if that lives.

Belongs here: what the containers' health checks ask. Does not belong here: what is wrong then
(`communicator doctor` says it).
"""

from __future__ import annotations

import sys
import urllib.request
from datetime import UTC, datetime
from socket import gethostname

PATIENCE = 8  # seconds; the check itself is given up after 10


def answers(url: str) -> bool:
    """Whether the address answers with 200."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310
        return bool(response.status == 200)


def worker_lives() -> bool:
    """Whether a worker of this machine has been heard of lately."""
    from communicator_pipeline.storage import home, open_stores
    from communicator_pipeline.storage.workers import Workers

    living = Workers(open_stores(home()).database).living(datetime.now(UTC))
    return any(worker.rpartition(":")[0] == gethostname() for worker in living)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Usage: python healthy.py URL|worker", file=sys.stderr)
        return 2
    what = arguments[0]
    try:
        healthy = worker_lives() if what == "worker" else answers(what)
    except OSError as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    if not healthy:
        print(f"{what}: no sign of life", file=sys.stderr)
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
