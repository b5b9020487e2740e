"""`python -m communicator_pipeline.cli`, the same as `communicator`."""

from communicator_pipeline.cli.app import app

app()
