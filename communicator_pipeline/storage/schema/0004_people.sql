-- Who signs in, with what, what they did, and what they did with a conversation.

-- As whom somebody else's sign-in (Cloudflare Access) names them; in lower case.
ALTER TABLE users ADD COLUMN email TEXT;

CREATE UNIQUE INDEX users_by_email ON users (email) WHERE email IS NOT NULL;

CREATE TABLE passwords (
    user_id TEXT PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    hash TEXT NOT NULL,                 -- argon2id
    set_at TEXT NOT NULL
) WITHOUT ROWID;

-- A link that signs its user in once, to set a password. Secrets are kept as SHA-256 digests only.
CREATE TABLE login_links (
    digest TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
    digest TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    csrf TEXT NOT NULL,                 -- what a form must send back
    created_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write')),
    digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    used_at TEXT,
    revoked_at TEXT
) WITHOUT ROWID;

CREATE INDEX api_keys_by_user ON api_keys (user_id);

-- Sign-ins that failed, to slow down who guesses.
CREATE TABLE login_failures (
    id INTEGER PRIMARY KEY,
    who TEXT NOT NULL,                  -- 'user:<user_id>' or 'address:<address>'
    at TEXT NOT NULL
);

CREATE INDEX login_failures_by_who ON login_failures (who, at);

CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    user_id TEXT NOT NULL,              -- '' if nobody was signed in
    account TEXT,
    action TEXT NOT NULL,
    target TEXT NOT NULL DEFAULT '',    -- the id of what it was done to
    detail TEXT NOT NULL DEFAULT '',
    via TEXT NOT NULL                   -- 'inbox', 'command', 'key:<key_id>'
);

CREATE INDEX audit_log_by_user ON audit_log (user_id, id);

-- What people did with a conversation. It is hidden until a time, or until it goes on beyond what
-- they had seen.
CREATE TABLE conversation_states (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    hidden_until TEXT NOT NULL DEFAULT '',  -- '' if it is not
    hidden_seen TEXT NOT NULL DEFAULT '',   -- last_message_at as they had seen it
    hidden_why TEXT NOT NULL DEFAULT '' CHECK (hidden_why IN ('', 'done', 'snoozed')),
    assigned_to TEXT NOT NULL DEFAULT '',
    changed_by TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID;

-- All that a list is filtered by stands in its index.
ALTER TABLE conversations ADD COLUMN category TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN from_me INTEGER NOT NULL DEFAULT 0; -- the last message is ours
ALTER TABLE conversations ADD COLUMN hidden_until TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN assigned_to TEXT NOT NULL DEFAULT '';

UPDATE conversations SET category = (SELECT category FROM analyses AS a
    WHERE a.account = conversations.account AND a.day = conversations.day
    AND a.conversation_id = conversations.conversation_id),
    from_me = coalesce((SELECT g.author_id IN (SELECT value FROM accounts AS p, json_each(p.me)
        WHERE p.account = g.account) FROM messages AS g WHERE g.account = conversations.account
        AND g.conversation_id = conversations.conversation_id
        ORDER BY g.sent_at DESC, g.message_id DESC LIMIT 1), 0);

DROP INDEX conversations_by_priority;

CREATE INDEX conversations_by_priority ON conversations (account, needs_reply DESC, priority DESC,
    last_message_at DESC, conversation_id, hidden_until, assigned_to, category, from_me, day);

-- What is counted beside the list, in the order in which it is counted.
CREATE INDEX conversations_by_category ON conversations (account, category, hidden_until);
