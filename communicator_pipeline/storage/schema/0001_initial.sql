-- Times are text, ISO 8601 in UTC with microseconds, so that they sort. Ids are text.

CREATE TABLE users (
    user_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    is_admin INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);

CREATE TABLE accounts (
    account TEXT PRIMARY KEY,           -- a slug; also the partition key
    platform TEXT NOT NULL,
    name TEXT NOT NULL,
    me TEXT NOT NULL DEFAULT '[]',      -- JSON: the owner's person ids on the platform
    created_at TEXT NOT NULL
);

CREATE TABLE account_members (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('owner', 'reviewer', 'viewer')),
    PRIMARY KEY (account, user_id)
) WITHOUT ROWID;

CREATE INDEX account_members_by_user ON account_members (user_id);

CREATE TABLE people (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    person_id TEXT NOT NULL,
    name TEXT NOT NULL,
    handle TEXT NOT NULL DEFAULT '',
    is_bot INTEGER NOT NULL DEFAULT 0,
    seen_at TEXT NOT NULL,              -- when the platform said so: an older export never wins
    PRIMARY KEY (account, person_id)
) WITHOUT ROWID;

CREATE TABLE channels (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    channel_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (account, channel_id)
) WITHOUT ROWID;

CREATE TABLE settings (
    scope TEXT NOT NULL,                -- 'installation', 'user:<user_id>' or 'account:<account>'
    key TEXT NOT NULL,
    value TEXT NOT NULL,                -- JSON
    updated_at TEXT NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;

-- One row for each export file that was imported into an account; position says how far it got.
CREATE TABLE imports (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    source TEXT NOT NULL,
    position TEXT NOT NULL DEFAULT '',
    counts TEXT NOT NULL DEFAULT '{}',  -- JSON
    started_at TEXT NOT NULL,
    finished_at TEXT,
    PRIMARY KEY (account, fingerprint)
) WITHOUT ROWID;

-- The intent to land a file is written before the file, and taken back in the batch that marks
-- its days: a writer that dies in between leaves the row, and whoever sees it marks the days.
CREATE TABLE landing_intents (
    object_key TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    days TEXT NOT NULL,                 -- JSON list of days
    created_at TEXT NOT NULL
) WITHOUT ROWID;

-- What is to be done, and nothing else decides it: the days whose mark is beyond what is done.
-- `mark` grows with every touch and never comes back: a late run cannot take off a newer one.
CREATE TABLE dirty_days (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    day TEXT NOT NULL,
    mark INTEGER NOT NULL DEFAULT 1,
    done_mark INTEGER NOT NULL DEFAULT 0,
    since TEXT NOT NULL,
    why TEXT NOT NULL,
    leased_mark INTEGER NOT NULL DEFAULT 0,
    leased_until TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, day)
) WITHOUT ROWID;

-- Which mark a run found when it began: only that one may it take off.
CREATE TABLE day_claims (
    run_id TEXT NOT NULL,
    account TEXT NOT NULL,
    day TEXT NOT NULL,
    mark INTEGER NOT NULL,
    claimed_at TEXT NOT NULL,
    PRIMARY KEY (run_id, account, day)
) WITHOUT ROWID;

CREATE TABLE stage_timings (
    stage TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    month TEXT NOT NULL,
    item_count INTEGER NOT NULL,
    seconds REAL NOT NULL,
    finished_at TEXT NOT NULL,
    PRIMARY KEY (stage, account, month)
) WITHOUT ROWID;

CREATE TABLE dead_letters (
    dead_letter_id TEXT PRIMARY KEY,    -- digest of what it is: the same fault is one row
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    stage TEXT NOT NULL,                -- 'import', 'raw_messages', 'analyses', …
    source TEXT NOT NULL,               -- file and place, or the conversation
    reason TEXT NOT NULL,               -- what was wrong and what to do
    payload TEXT,                       -- what arrived, up to 64 KB
    day TEXT,                           -- the day to materialise again on a retry
    attempts INTEGER NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('trying', 'open', 'resolved')),
    first_seen_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX dead_letters_by_account ON dead_letters (account, state);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    message_id TEXT NOT NULL,
    day TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    author_id TEXT NOT NULL,
    author_name TEXT NOT NULL,
    author_is_bot INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    search_text TEXT,                   -- only where the text needs cutting into words first
    thread_id TEXT,
    reply_to TEXT,
    attachments TEXT NOT NULL,          -- JSON
    reactions TEXT NOT NULL,            -- JSON
    edited_at TEXT,
    deleted INTEGER NOT NULL,
    version INTEGER NOT NULL,
    conversation_id TEXT NOT NULL,
    parent_message_id TEXT,
    link_reason TEXT NOT NULL,
    link_score REAL NOT NULL,
    link_why TEXT NOT NULL,
    UNIQUE (account, message_id)
);

CREATE INDEX messages_by_conversation ON messages (account, conversation_id, sent_at);
CREATE INDEX messages_by_day ON messages (account, day);

CREATE VIRTUAL TABLE messages_fts USING fts5 (
    body, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2'
);

CREATE TRIGGER messages_inserted AFTER INSERT ON messages BEGIN
    INSERT INTO messages_fts (rowid, body) VALUES (new.id, coalesce(new.search_text, new.text));
END;

CREATE TRIGGER messages_deleted AFTER DELETE ON messages BEGIN
    DELETE FROM messages_fts WHERE rowid = old.id;
END;

CREATE TRIGGER messages_text_changed AFTER UPDATE OF text ON messages WHEN old.text <> new.text
BEGIN
    DELETE FROM messages_fts WHERE rowid = old.id;
    INSERT INTO messages_fts (rowid, body) VALUES (new.id, coalesce(new.search_text, new.text));
END;

-- One row per conversation and day on which it was active, as of the end of that day.
CREATE TABLE analyses (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    day TEXT NOT NULL,
    as_of TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    started_at TEXT NOT NULL,
    last_message_at TEXT NOT NULL,
    last_author TEXT NOT NULL,
    message_count INTEGER NOT NULL,
    people TEXT NOT NULL,               -- JSON list of names
    language TEXT NOT NULL,
    category TEXT NOT NULL,
    category_reason TEXT NOT NULL,
    priority INTEGER NOT NULL,
    priority_reasons TEXT NOT NULL,     -- JSON
    needs_reply INTEGER NOT NULL,
    needs_reply_score REAL NOT NULL,
    needs_reply_reason TEXT NOT NULL,
    waiting_since TEXT,
    summary TEXT NOT NULL,
    summary_message_ids TEXT NOT NULL,  -- JSON
    sentiment REAL NOT NULL,
    confidence REAL NOT NULL,
    flags TEXT NOT NULL,                -- JSON
    model TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id, day)
) WITHOUT ROWID;

CREATE INDEX analyses_by_day ON analyses (account, day);

-- What the inbox lists: which day of each conversation is its newest.
CREATE TABLE conversations (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    day TEXT NOT NULL,
    needs_reply INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    last_message_at TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID;

CREATE INDEX conversations_by_priority
    ON conversations (account, needs_reply DESC, priority DESC, last_message_at DESC);

CREATE TABLE drafts (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    day TEXT NOT NULL,
    version INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ready', 'needs_fill', 'no_reply')),
    text TEXT NOT NULL,
    language TEXT NOT NULL,
    gaps TEXT NOT NULL,                 -- JSON
    rests_on TEXT NOT NULL,             -- JSON: message ids
    reason TEXT NOT NULL,
    flags TEXT NOT NULL,                -- JSON
    confidence REAL NOT NULL,
    model TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id, day, version)
) WITHOUT ROWID;

CREATE INDEX drafts_by_day ON drafts (account, day);

-- Which lake files a day in the database was made of. A run that read older ones comes too late.
CREATE TABLE published_days (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    day TEXT NOT NULL,
    generation INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (account, day)
) WITHOUT ROWID;

CREATE TRIGGER published_days_never_go_back BEFORE UPDATE ON published_days
WHEN new.generation < old.generation
BEGIN
    SELECT RAISE(ABORT, 'a newer run has published this day');
END;

-- Filled and emptied within one batch: what the batch has to look at again.
CREATE TABLE touched_conversations (
    account TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID;
