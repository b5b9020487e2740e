"""Comparing another way to analyse and draft with the live one: pure.

Belongs here: which conversations are held out, pairing what both ways made, figures with their
uncertainty, the report's words. Does not belong here: making what is compared
(`chain/comparison.py`), keeping it (`chain/shadows.py`).
"""
