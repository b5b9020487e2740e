"""Dagster's own records (runs, events, schedules): in which database they are, how they move from
one to another, what of them goes when."""
