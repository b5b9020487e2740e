-- What people corrected: which messages belong together, and what a conversation is about.

-- A person's word on where a message belongs. The newest word on a message that was not taken back
-- is in force.
CREATE TABLE regroupings (
    id INTEGER PRIMARY KEY,
    regrouping_id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    message_id TEXT NOT NULL,           -- may be a root that never came: what hangs on it is meant
    parent_message_id TEXT,             -- what it continues; null: a conversation begins with it
    conversation_id TEXT NOT NULL,      -- what it belonged to when that was said
    other_conversation_id TEXT NOT NULL, -- what it belongs to because of it
    made_by TEXT NOT NULL,
    made_at TEXT NOT NULL,
    undone_by TEXT,
    undone_at TEXT
);

CREATE INDEX regroupings_in_force ON regroupings (account, message_id, id) WHERE undone_at IS NULL;

-- What a person set, and took back: rows are added only, the newest of a conversation holds.
CREATE TABLE relabels (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    category TEXT,                      -- null: the analysis decides
    priority INTEGER CHECK (priority BETWEEN 0 AND 100), -- null: the analysis decides
    before_category TEXT NOT NULL,      -- as it was shown before
    before_priority INTEGER NOT NULL,
    analysed_category TEXT NOT NULL,    -- what the analysis last said, which is shown again when
    analysed_category_reason TEXT NOT NULL, -- theirs is taken back, until the day is made again
    analysed_priority INTEGER NOT NULL,
    analysed_priority_reasons TEXT NOT NULL, -- JSON
    why TEXT NOT NULL DEFAULT '',
    made_by TEXT NOT NULL,
    made_at TEXT NOT NULL
);

CREATE INDEX relabels_by_conversation ON relabels (account, conversation_id, id);
