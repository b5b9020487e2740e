"""What the outside reaches over HTTP.

Belongs here: routes, and how they answer. Does not belong here: what they do (`ingestion/`,
`storage/`).
"""
