-- How far an account's relabels were learnt from. What was learnt is in the lake.

CREATE TABLE label_models (
    account TEXT PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
    learnt_to INTEGER NOT NULL DEFAULT 0,   -- id of the newest relabel that was learnt from
    forgotten_to INTEGER NOT NULL DEFAULT 0, -- relabels up to this id teach nothing any more
    forgotten_by TEXT NOT NULL DEFAULT '',
    forgotten_at TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
