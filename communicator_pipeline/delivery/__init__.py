"""Replies on their way out: approved once, sent once.

Belongs here: what is decided about a reply from its approval until its echo has come back. Does not
belong here: drafting it (`drafting/`), how a platform sends (`platforms/`), the SQL
(`storage/outbox.py`), what calls all this in time (jobs, the worker, the command line).

`states.py` says which changes there are, and nothing is written that it has not allowed;
`approving.py` takes a person's yes, `policies.py` does without one, `voiding.py` takes it back,
`dispatch.py` sends, `recovery.py` finds out what became of a send whose answer was lost.
"""
