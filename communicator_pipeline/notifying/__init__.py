"""Telling people what cannot wait: urgent conversations, the day's digest, trouble.

Belongs here: what is worth telling (`urgent.py`), when it may go (`when.py`), how it reads
(`wording.py`), which addresses are taken (`addresses.py`), sending (`sending.py`, `one_message.py`)
and the round that puts these together (`telling.py`). Does not belong here: what was told and who
claims it (`storage/notifications.py`), asking for a round (`worker.py`, `schedules.py`).
"""
