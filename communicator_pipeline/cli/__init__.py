"""The `communicator` command.

Belongs here: asking, telling, exit codes. Does not belong here: anything that the API must be
able to do too (the domain packages). Exit codes: 0 done, 1 it could not be done (the message
says what to do), 2 the call was wrong, 3 done, but something landed in the dead letters.
"""

from communicator_pipeline.cli.app import app

__all__ = ["app"]
