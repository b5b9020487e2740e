-- Live accounts: how they log in, what they read, how far they have come, what was pushed.

CREATE TABLE connections (
    account TEXT PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
    settings TEXT NOT NULL,             -- JSON: field → value; none of them secret
    secrets TEXT NOT NULL,              -- encrypted JSON: field → value
    state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    covered_since TEXT NOT NULL,        -- what was sent from here on, the live cursors bring
    only_included INTEGER NOT NULL DEFAULT 0,
    every_seconds INTEGER NOT NULL,     -- how often it is pulled
    next_pull_at TEXT NOT NULL,
    pulled_at TEXT,                     -- when a pull last came to its end
    news_at TEXT,                       -- when something last landed
    failures INTEGER NOT NULL DEFAULT 0, -- in a row
    trouble TEXT NOT NULL DEFAULT '',   -- in words; empty: none
    trouble_kind TEXT NOT NULL DEFAULT '',
    trouble_since TEXT,
    notices TEXT NOT NULL DEFAULT '[]', -- JSON: what the last pull could not read, and why
    lease_holder TEXT NOT NULL DEFAULT '',
    lease_until TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE chat_rules (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    channel_id TEXT NOT NULL,
    rule TEXT NOT NULL CHECK (rule IN ('include', 'exclude', 'mute')),
    PRIMARY KEY (account, channel_id)
) WITHOUT ROWID;

-- How far a pull has come. Scope '' is what is new; a window of history has one of its own.
CREATE TABLE cursors (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    scope TEXT NOT NULL,
    stream TEXT NOT NULL,
    position TEXT NOT NULL,
    moved_at TEXT NOT NULL,
    PRIMARY KEY (account, scope, stream)
) WITHOUT ROWID;

-- The platforms' limits, as they told them: nobody asks before, in whatever process.
CREATE TABLE platform_waits (
    scope TEXT PRIMARY KEY,             -- what the platform counts by, or 'account:<account>'
    account TEXT NOT NULL,              -- who met it; others may share it, so it outlives them
    until TEXT NOT NULL,
    why TEXT NOT NULL
) WITHOUT ROWID;

-- Stretches of history that were asked for. What is done is not fetched again.
CREATE TABLE history_windows (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    first TEXT NOT NULL,
    last TEXT NOT NULL,                 -- not included
    done REAL NOT NULL DEFAULT 0,       -- 0…1
    asked_at TEXT NOT NULL,
    done_at TEXT,
    not_before TEXT NOT NULL DEFAULT '', -- after a failure, which is the window's own:
    trouble TEXT NOT NULL DEFAULT '',   -- what is new may come all the same
    PRIMARY KEY (account, first, last)
) WITHOUT ROWID;

CREATE TABLE platform_costs (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    day TEXT NOT NULL,
    reads INTEGER NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (account, day)
) WITHOUT ROWID;

-- The ingestion queue. A row that has landed stays without its body, to know a repeat by.
CREATE TABLE pushes (
    push_id INTEGER PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    push_key TEXT NOT NULL,             -- the same when the platform pushes the same again
    body TEXT,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'landed', 'dead')),
    received_at TEXT NOT NULL,
    visible_at TEXT NOT NULL,           -- leased or put off until then
    leases INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, push_key)
);

CREATE INDEX pushes_waiting ON pushes (visible_at) WHERE state = 'waiting';
CREATE INDEX pushes_landed ON pushes (received_at) WHERE state = 'landed';

-- Accounts that were removed. Whoever was at work on one may write something more, which is deleted
-- until there has been nothing for a while; the key is given to nobody before.
CREATE TABLE removed_accounts (
    account TEXT PRIMARY KEY,
    removed_by TEXT NOT NULL,           -- the user
    removed_at TEXT NOT NULL,
    found_at TEXT NOT NULL              -- when something was last found to delete
) WITHOUT ROWID;

-- Workers that live. The sensor stands in for them when none does.
CREATE TABLE workers (
    worker TEXT PRIMARY KEY,            -- host:process
    started_at TEXT NOT NULL,
    beat_at TEXT NOT NULL
) WITHOUT ROWID;
