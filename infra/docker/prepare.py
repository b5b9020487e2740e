"""Makes the stores and Dagster's storage once, before anything else opens them.

Belongs here: opening both. Does not belong here: what they hold. Several processes that create a
schema together get in each other's way; those that find it there do not. Repeating it does no harm.
"""

from __future__ import annotations

from communicator_pipeline.runs import open_instance, register_accounts
from communicator_pipeline.storage import home, open_stores


def main() -> None:
    stores = open_stores(home())
    with open_instance() as instance:
        register_accounts(stores, instance)
    print("The stores and Dagster's storage are ready")


if __name__ == "__main__":
    main()
