"""Servers that others wrote, and the tests that talk to them over a socket.

Belongs here: what such a peer needs to run (`make -C communicator_pipeline_tests/peers` installs
it into an environment of its own, so that its pins do not disturb ours), starting and stopping it,
and tests that are marked `peers`. Does not belong here: servers of our own making (they stand
beside the tests of their platform).

Peers lie too: each test says what its peer does differently from the real service.
"""
