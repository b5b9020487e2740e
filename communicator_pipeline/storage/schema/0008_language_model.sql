-- The language model: what it answered, what it took, and how much of it may be asked at once.

-- An answer is kept for the account whose words it is about: nobody else's question finds it.
CREATE TABLE model_answers (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    digest TEXT NOT NULL,               -- of model, parameters, prompt, schema and input
    answer TEXT NOT NULL,               -- JSON, valid when it was kept
    model TEXT NOT NULL,
    purpose TEXT NOT NULL,
    calls INTEGER NOT NULL,             -- what it took when it was given
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    neurons REAL NOT NULL,
    cost_usd REAL NOT NULL,
    answered_at TEXT NOT NULL,
    PRIMARY KEY (account, digest)
) WITHOUT ROWID;

CREATE INDEX model_answers_by_age ON model_answers (answered_at);

CREATE TABLE model_usage (
    user_id TEXT NOT NULL,              -- who pays; stays when the user has gone
    account TEXT NOT NULL,
    day TEXT NOT NULL,                  -- UTC
    purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    neurons REAL NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, day, account, purpose, model)
) WITHOUT ROWID;

-- One row per model and server. Moments are milliseconds since 1970, because they are reckoned with.
CREATE TABLE model_endpoints (
    endpoint TEXT PRIMARY KEY,
    next_call INTEGER NOT NULL DEFAULT 0,     -- when the next call may begin
    blocked_until INTEGER NOT NULL DEFAULT 0, -- none before that
    trouble TEXT NOT NULL DEFAULT '',         -- in words; empty: none
    trouble_at TEXT
) WITHOUT ROWID;

-- Who asks a model now, and how many calls of theirs may be under way together.
CREATE TABLE model_shares (
    endpoint TEXT NOT NULL,
    holder TEXT NOT NULL,
    share INTEGER NOT NULL,
    until INTEGER NOT NULL,             -- a holder that died gives its share back by then
    PRIMARY KEY (endpoint, holder)
) WITHOUT ROWID;

-- Days on which the offline analyser or drafter stood in for a model: to be tried again.
CREATE TABLE model_retries (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    day TEXT NOT NULL,
    why TEXT NOT NULL,
    retry_at TEXT NOT NULL,
    PRIMARY KEY (account, day)
) WITHOUT ROWID;

ALTER TABLE analyses ADD COLUMN stood_in TEXT NOT NULL DEFAULT '';   -- why no model did it
ALTER TABLE analyses ADD COLUMN withheld TEXT NOT NULL DEFAULT '[]'; -- JSON: what it did not see
ALTER TABLE analyses ADD COLUMN prompt TEXT NOT NULL DEFAULT '';
ALTER TABLE drafts ADD COLUMN stood_in TEXT NOT NULL DEFAULT '';
ALTER TABLE drafts ADD COLUMN withheld TEXT NOT NULL DEFAULT '[]';
ALTER TABLE drafts ADD COLUMN prompt TEXT NOT NULL DEFAULT '';

-- Every draft that somebody asked for, and the one that was there before: the newest is shown.
CREATE TABLE draft_versions (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    number INTEGER NOT NULL,            -- 1, 2, … of the conversation
    base_version TEXT NOT NULL,         -- what had been said, and drafted by the pipeline
    text TEXT NOT NULL,
    outcome TEXT NOT NULL,
    made_by TEXT NOT NULL,              -- 'pipeline', 'redraft' or 'user'
    user_id TEXT,
    instruction TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL,
    gaps TEXT NOT NULL,                 -- JSON
    rests_on TEXT NOT NULL,             -- JSON: message ids
    reason TEXT NOT NULL,
    flags TEXT NOT NULL,                -- JSON
    confidence REAL NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    stood_in TEXT NOT NULL DEFAULT '',
    made_at TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id, number)
) WITHOUT ROWID;
