"""Tests of `notifying`."""
