"""Sends what is due of one account and ends: the process that the demo kills half-way.

`python -m communicator_pipeline.demo.sender FOLDER ACCOUNT`
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.storage import open_stores

LEASE = timedelta(seconds=2)
"""A claim's, here: nobody wants to watch the usual two minutes."""

if __name__ == "__main__":
    folder, account = sys.argv[1:]
    deliver_due(open_stores(Path(folder)), account=account, lease=LEASE)
