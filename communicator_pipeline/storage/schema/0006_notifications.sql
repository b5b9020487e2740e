-- Where people are told of what cannot wait, and what they were told of.

CREATE TABLE notification_targets (
    target_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    name TEXT NOT NULL,                 -- what the user calls it
    shown TEXT NOT NULL,                -- the service, and its host where that is no secret
    sealed TEXT NOT NULL,               -- encrypted JSON: the address, which holds secrets
    operators INTEGER NOT NULL DEFAULT 0, -- what concerns the installation is told there, too
    created_at TEXT NOT NULL,
    told_at TEXT,                       -- when it last took a message
    trouble TEXT NOT NULL DEFAULT '',   -- why it did not take the last one; without secrets
    trouble_since TEXT,
    UNIQUE (user_id, name)
) WITHOUT ROWID;

-- One row for each thing that a user is told of. It is there before anything is sent: what has a
-- row is not noticed again. No text of a message is kept here.
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('urgent', 'digest', 'failed_runs', 'dead_letters',
        'dead_tokens')),
    cause TEXT NOT NULL,                -- what it is about: told once
    account TEXT REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT,
    line TEXT NOT NULL DEFAULT '',      -- what operators are told; of a digest, the days in it
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'told',
        'not_told', 'over')),
    noticed_at TEXT NOT NULL,
    not_before TEXT NOT NULL DEFAULT '', -- it failed, and is tried again then
    attempts INTEGER NOT NULL DEFAULT 0,
    claim TEXT NOT NULL DEFAULT '',     -- who sends it
    claimed_at TEXT NOT NULL DEFAULT '',
    ended_at TEXT,
    why TEXT NOT NULL DEFAULT '',       -- it was not told, in words
    UNIQUE (user_id, kind, cause)
);

CREATE INDEX notifications_open ON notifications (user_id, kind) WHERE state IN ('waiting',
    'sending');
CREATE INDEX notifications_claimed ON notifications (user_id, kind, claimed_at);
