"""What each asset does to one partition, without Dagster.

Belongs here: one module per asset: read what it stands on, call the pure functions that think,
write whole days. Does not belong here: the thinking (`ingestion/`, `grouping/`, `analysis/`,
`drafting/`), what Dagster wants to know (`assets/`).

Every function here can be run again, killed anywhere, or run twice at once. A change in an
earlier day reaches later ones by marks in `dirty_days`, which are always set before the change
is visible: a kill in between costs a superfluous run, never a missing one.
"""
