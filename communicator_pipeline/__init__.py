"""Communicator: messages from everywhere, grouped, understood and answered, as Dagster assets."""

import warnings

# dagster marks `backfill_policy` as beta; the pin in pyproject.toml is what keeps it from
# changing under us, and a warning on every start tells nobody anything.
warnings.filterwarnings("ignore", message=r"Parameter `backfill_policy`")
