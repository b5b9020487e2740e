-- What people made of drafts, and what is learnt from it.

-- Append-only: what somebody did stays what they did.
CREATE TABLE feedback (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    feedback_id TEXT NOT NULL,          -- digest of what it tells of: told twice, it is one row
    conversation_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('approved', 'edited', 'rejected', 'instructed',
        'relabelled', 'merged', 'split')),
    user_id TEXT NOT NULL,
    at TEXT NOT NULL,
    source_version TEXT NOT NULL DEFAULT '', -- what they had seen
    approval_id TEXT,                   -- written with it; one that was taken back is no verdict
    draft_text TEXT NOT NULL DEFAULT '',
    final_text TEXT NOT NULL DEFAULT '',     -- of an approval or an edit
    note TEXT NOT NULL DEFAULT '',           -- the instruction, the reason, the new label
    model TEXT NOT NULL DEFAULT '',
    draft_day TEXT,
    draft_version INTEGER,
    category TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL DEFAULT '',
    rests_on TEXT NOT NULL DEFAULT '[]',     -- JSON: ids of the message answered, of memories
    person_id TEXT NOT NULL DEFAULT '',      -- who was answered
    person_name TEXT NOT NULL DEFAULT '',
    about TEXT NOT NULL DEFAULT '[]',        -- JSON: content words of the message answered
    borrowed TEXT NOT NULL DEFAULT '[]',     -- JSON: sentences of the final text that others had
                                             -- written before: nothing is learnt from them
    PRIMARY KEY (account, feedback_id)
) WITHOUT ROWID;

CREATE INDEX feedback_by_time ON feedback (account, at);
CREATE INDEX feedback_by_conversation ON feedback (account, conversation_id);

CREATE TRIGGER feedback_does_not_change BEFORE UPDATE ON feedback
BEGIN
    SELECT RAISE(ABORT, 'feedback is never changed: write what was done since as a row of its own');
END;

CREATE TABLE memories (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    memory_id TEXT NOT NULL,            -- digest of what was learnt, for whom; random if written
    user_id TEXT NOT NULL,              -- the account's owner
    scope TEXT NOT NULL,                -- 'everyone', 'contact:<person_id>', 'category:<name>'
    kind TEXT NOT NULL CHECK (kind IN ('fact', 'preference', 'procedure')),
    language TEXT NOT NULL DEFAULT '',  -- '' if it holds in any
    rule TEXT NOT NULL,                 -- JSON: what the drafter does
    text TEXT NOT NULL,                 -- the same in words
    learnt TEXT NOT NULL DEFAULT '',    -- what it was learnt as, however people changed it since;
                                        -- '' if a person wrote it
    sources TEXT NOT NULL DEFAULT '[]', -- JSON: feedback ids
    state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deleted')),
    created_at TEXT NOT NULL,
    edited_by TEXT NOT NULL DEFAULT '', -- who wrote, changed or deleted it; '' if nobody did
    edited_at TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, memory_id),
    CHECK (learnt <> '' OR edited_by <> '')
) WITHOUT ROWID;

-- What is still to be learnt from: the mark grows with everything that may change the memories,
-- and whoever has learnt notes which mark they had found, and a digest of what counts since then.
CREATE TABLE learning_marks (
    account TEXT PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
    mark INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    done_at TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT ''     -- '' while there is no memory
) WITHOUT ROWID;

CREATE TRIGGER feedback_is_to_be_learnt_from AFTER INSERT ON feedback
BEGIN
    INSERT INTO learning_marks (account, mark) VALUES (new.account, 1)
    ON CONFLICT (account) DO UPDATE SET mark = mark + 1;
END;

-- A reply that was taken back is no verdict on its draft.
CREATE TRIGGER feedback_is_taken_back AFTER UPDATE OF state ON deliveries
WHEN new.state = 'canceled' AND old.state <> 'canceled'
BEGIN
    UPDATE learning_marks SET mark = mark + 1 WHERE account = new.account;
END;

CREATE TRIGGER memories_changed_by_people AFTER UPDATE OF state, scope, rule, edited_at ON memories
WHEN new.edited_at <> ''
BEGIN
    UPDATE learning_marks SET mark = mark + 1 WHERE account = new.account;
END;

CREATE TRIGGER memories_written_by_people AFTER INSERT ON memories WHEN new.edited_at <> ''
BEGIN
    INSERT INTO learning_marks (account, mark) VALUES (new.account, 1)
    ON CONFLICT (account) DO UPDATE SET mark = mark + 1;
END;
