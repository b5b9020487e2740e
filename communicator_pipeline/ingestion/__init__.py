"""From what arrived to messages: importing export files, and merging the landing zone.

Belongs here: the flow that is the same for every platform. Does not belong here: what a
payload says (`platforms/`), where it is kept (`storage/`).
"""
