-- Replies on their way out. What a person approved never changes; what becomes of it is one row
-- per part, whose every change makes its fence grow by one: whoever holds an older fence is late.

CREATE TABLE approvals (
    approval_id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    channel_id TEXT NOT NULL,           -- the target: where it goes
    thread_id TEXT,
    reply_to TEXT,
    text TEXT NOT NULL CHECK (text <> ''),
    attachments TEXT NOT NULL DEFAULT '[]', -- JSON
    content_hash TEXT NOT NULL,         -- SHA-256 over all that goes out, and what it answers
    source_version TEXT NOT NULL,       -- SHA-256 over the messages and the draft that were seen
    seen TEXT NOT NULL,                 -- JSON: message_id → [version, digest of what it says]
    seen_since TEXT NOT NULL,           -- when the oldest of these was sent
    seen_newest TEXT NOT NULL,          -- message_id
    seen_newest_at TEXT NOT NULL,       -- when it was sent, by the platform's clock
    sender TEXT NOT NULL,               -- who sends: the platform and the owner's person ids
    category TEXT,                      -- of the conversation, as it was then
    draft_day TEXT,                     -- the draft that it came from; null: the approver's own
    draft_version INTEGER,
    draft TEXT,                         -- JSON: that draft's text, model, reason, what it rests on
    edited INTEGER NOT NULL DEFAULT 0,  -- a draft whose text a person changed
    automatic INTEGER NOT NULL DEFAULT 0, -- approved by a policy, not by a person
    approved_by TEXT NOT NULL,          -- user id; of a policy: who opened it
    approved_at TEXT NOT NULL,
    send_at TEXT NOT NULL,              -- the undo window's end, or the time that was set
    expires_at TEXT NOT NULL,
    ended_at TEXT                       -- no part of it is on its way any more
) WITHOUT ROWID;

-- One reply at a time is on its way to a conversation: two approvers cannot both win.
CREATE UNIQUE INDEX approvals_alive ON approvals (account, conversation_id) WHERE ended_at IS NULL;
CREATE INDEX approvals_by_content ON approvals (account, content_hash);
CREATE INDEX approvals_automatic ON approvals (account, category, approved_at) WHERE automatic = 1;

CREATE TRIGGER approvals_do_not_change BEFORE UPDATE OF approval_id, account, conversation_id,
    channel_id, thread_id, reply_to, text, attachments, content_hash, source_version, sender,
    draft_day, draft_version, draft, edited, automatic, approved_by, approved_at, send_at ON approvals
BEGIN
    SELECT RAISE(ABORT, 'what was approved does not change: undo it and approve anew');
END;

CREATE TABLE deliveries (
    delivery_id TEXT PRIMARY KEY,
    approval_id TEXT NOT NULL REFERENCES approvals ON DELETE CASCADE,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    number INTEGER NOT NULL,            -- 1…of
    of INTEGER NOT NULL,
    text TEXT NOT NULL CHECK (text <> ''),
    token TEXT NOT NULL UNIQUE,         -- the same at every attempt
    state TEXT NOT NULL DEFAULT 'approved' CHECK (state IN ('approved', 'sending', 'sent',
        'confirmed', 'failed', 'unknown', 'needs_human', 'canceled', 'expired', 'superseded')),
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    ambiguous INTEGER NOT NULL DEFAULT 0, -- an attempt may have arrived; nothing says that not
    may_repeat INTEGER NOT NULL DEFAULT 1, -- 0: the platform refused the same token again
    not_before TEXT NOT NULL DEFAULT '',
    lease_holder TEXT NOT NULL DEFAULT '',
    lease_until TEXT NOT NULL DEFAULT '',
    -- Steady: '<boot>/<seconds>', a clock that nobody sets.
    first_attempt_at TEXT NOT NULL DEFAULT '', -- of those that may have arrived
    first_attempt_steady TEXT NOT NULL DEFAULT '',
    attempt_at TEXT NOT NULL DEFAULT '',
    attempt_steady TEXT NOT NULL DEFAULT '',
    unknown_at TEXT NOT NULL DEFAULT '',
    unknown_steady TEXT NOT NULL DEFAULT '',
    looks INTEGER NOT NULL DEFAULT 0,   -- for an unknown one, that failed in a row
    outcome TEXT NOT NULL DEFAULT '',   -- what the last attempt came to
    message_id TEXT,                    -- on the platform, once it is known
    sent_at TEXT,                       -- as the platform says, else when we heard of it
    confirmed_at TEXT,
    reason TEXT NOT NULL DEFAULT '',    -- in words, without secrets
    changed_at TEXT NOT NULL,
    changed_by TEXT NOT NULL,           -- 'user:<id>', 'worker:<lease>', 'recovery', …
    UNIQUE (approval_id, number),
    CHECK (number BETWEEN 1 AND of),
    CHECK ((state = 'sending') = (lease_holder <> '')),
    CHECK (state <> 'unknown' OR ambiguous = 1),
    CHECK ((state IN ('sent', 'confirmed')) = (sent_at IS NOT NULL)),
    CHECK (state <> 'confirmed' OR (confirmed_at IS NOT NULL AND message_id IS NOT NULL))
) WITHOUT ROWID;

CREATE INDEX deliveries_open ON deliveries (state, account)
    WHERE state IN ('approved', 'sending', 'unknown', 'needs_human', 'sent');
CREATE INDEX deliveries_sent ON deliveries (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX deliveries_by_message ON deliveries (account, message_id)
    WHERE message_id IS NOT NULL;

CREATE TRIGGER deliveries_begin_approved BEFORE INSERT ON deliveries
WHEN new.state <> 'approved' OR new.fence <> 0 OR new.attempts <> 0
BEGIN
    SELECT RAISE(ABORT, 'a delivery begins approved, with fence 0 and no attempt');
END;

CREATE TRIGGER deliveries_do_not_change BEFORE UPDATE OF delivery_id, approval_id, account, number,
    of, text, token ON deliveries
BEGIN
    SELECT RAISE(ABORT, 'what was approved does not change: undo it and approve anew');
END;

-- The table of `delivery/states.py` once more, for whoever comes by another way.
CREATE TRIGGER deliveries_keep_to_the_states BEFORE UPDATE ON deliveries
WHEN NOT (
    (old.state = 'approved' AND new.state IN ('approved', 'sending', 'unknown', 'needs_human',
        'canceled', 'expired', 'superseded'))
    OR (old.state = 'sending' AND new.state IN ('approved', 'sent', 'failed', 'unknown'))
    OR (old.state = 'unknown' AND new.state IN ('unknown', 'approved', 'sent', 'needs_human'))
    OR (old.state = 'needs_human' AND new.state IN ('approved', 'sent', 'canceled'))
    OR (old.state = 'sent' AND new.state = 'confirmed')
)
BEGIN
    SELECT RAISE(ABORT, 'no delivery goes from its state to that one');
END;

CREATE TRIGGER deliveries_fence_grows BEFORE UPDATE ON deliveries
WHEN new.fence <> old.fence + 1
    OR new.attempts <> old.attempts + (old.state = 'approved' AND new.state = 'sending')
BEGIN
    SELECT RAISE(ABORT, 'every change of a delivery grows its fence, every claim its attempts');
END;

-- It may have arrived: whether it did is for the platform or a person to say, not for a clock.
CREATE TRIGGER deliveries_ambiguous_are_kept BEFORE UPDATE ON deliveries
WHEN old.ambiguous = 1 AND old.state IN ('approved', 'sending')
    AND new.state IN ('canceled', 'expired', 'superseded', 'failed')
BEGIN
    SELECT RAISE(ABORT, 'it may have arrived: resolve it');
END;

CREATE TABLE delivery_attempts (
    delivery_id TEXT NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    fence INTEGER NOT NULL,             -- under which its result could be written
    holder TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT,                       -- 'sent', 'refused', 'later', 'unknown' or 'lost'
    error TEXT NOT NULL DEFAULT '',     -- in words, without secrets
    message_id TEXT,
    PRIMARY KEY (delivery_id, attempt)
) WITHOUT ROWID;

CREATE TABLE delivery_log (
    delivery_id TEXT NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    fence INTEGER NOT NULL,             -- after the change
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (delivery_id, fence)
) WITHOUT ROWID;

CREATE TRIGGER deliveries_are_logged_at_first AFTER INSERT ON deliveries BEGIN
    INSERT INTO delivery_log (delivery_id, fence, account, at, actor, before, after, reason)
    VALUES (new.delivery_id, 0, new.account, new.changed_at, new.changed_by, '', new.state, '');
END;

CREATE TRIGGER deliveries_are_logged AFTER UPDATE ON deliveries BEGIN
    INSERT INTO delivery_log (delivery_id, fence, account, at, actor, before, after, reason)
    VALUES (new.delivery_id, new.fence, new.account, new.changed_at, new.changed_by, old.state,
        new.state, new.reason);
END;

CREATE TRIGGER deliveries_note_attempts AFTER UPDATE ON deliveries
WHEN old.state = 'approved' AND new.state = 'sending'
BEGIN
    INSERT INTO delivery_attempts (delivery_id, attempt, account, fence, holder, started_at)
    VALUES (new.delivery_id, new.attempts, new.account, new.fence, new.lease_holder,
        new.attempt_at);
END;

CREATE TRIGGER deliveries_note_outcomes AFTER UPDATE ON deliveries WHEN old.state = 'sending'
BEGIN
    UPDATE delivery_attempts SET ended_at = new.changed_at, outcome = new.outcome,
        error = CASE new.state WHEN 'sent' THEN '' ELSE new.reason END,
        message_id = new.message_id
    WHERE delivery_id = new.delivery_id AND attempt = new.attempts;
END;

CREATE TRIGGER deliveries_end_approvals AFTER UPDATE ON deliveries
WHEN new.state IN ('sent', 'failed', 'canceled', 'expired', 'superseded')
BEGIN
    UPDATE approvals SET ended_at = new.changed_at
    WHERE approval_id = new.approval_id AND ended_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM deliveries WHERE approval_id = new.approval_id
        AND state IN ('approved', 'sending', 'unknown', 'needs_human'));
END;

-- The kill switch. A row is a closed switch.
CREATE TABLE sending_switches (
    scope TEXT PRIMARY KEY,             -- 'installation' or 'account:<account>'
    account TEXT REFERENCES accounts ON DELETE CASCADE,
    closed_by TEXT NOT NULL,
    closed_at TEXT NOT NULL,
    why TEXT NOT NULL
) WITHOUT ROWID;

-- Approval without a person. No row, or a revoked one: never.
CREATE TABLE sending_policies (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    category TEXT NOT NULL,
    threshold REAL NOT NULL CHECK (threshold BETWEEN 0 AND 1), -- of the draft's confidence
    daily_cap INTEGER NOT NULL CHECK (daily_cap >= 0),
    opened_by TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    revoked_at TEXT,
    revoked_why TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, category)
) WITHOUT ROWID;

-- What a person made of a draft and has not approved yet; and drafts that they turned down.
CREATE TABLE draft_edits (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    source_version TEXT NOT NULL,       -- what they had seen
    text TEXT NOT NULL,
    edited_by TEXT NOT NULL,
    edited_at TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id)
) WITHOUT ROWID;

CREATE TABLE draft_rejections (
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    rejected_by TEXT NOT NULL,
    rejected_at TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (account, conversation_id, source_version)
) WITHOUT ROWID;

-- What came too late to void a reply: it is in the inbox until somebody has read it.
CREATE TABLE delivery_notices (
    approval_id TEXT NOT NULL REFERENCES approvals ON DELETE CASCADE,
    cause TEXT NOT NULL,                -- 'message_id:version': told once
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    conversation_id TEXT NOT NULL,
    text TEXT NOT NULL,
    raised_at TEXT NOT NULL,
    read_at TEXT,
    PRIMARY KEY (approval_id, cause)
) WITHOUT ROWID;

CREATE INDEX delivery_notices_unread ON delivery_notices (account) WHERE read_at IS NULL;

-- Everything that decides whether a delivery may leave, in one place: what is due is read from it,
-- and the claim's own statement asks it again.
CREATE VIEW outgoing AS
SELECT d.*, a.conversation_id, a.channel_id, a.thread_id, a.reply_to, a.text AS whole_text,
    a.attachments, a.content_hash, a.source_version, a.seen, a.seen_since, a.seen_newest_at,
    a.automatic, a.approved_by, a.approved_at, a.send_at, a.expires_at, a.ended_at, p.platform,
    (SELECT json_group_array(text) FROM (SELECT text FROM deliveries AS e
        WHERE e.approval_id = d.approval_id ORDER BY e.number)) AS parts,
    p.platform = 'sandbox' AS is_sandbox,
    coalesce(c.settings ->> 'sending', CASE p.platform WHEN 'sandbox' THEN 'open' ELSE '' END)
        = 'open' AS account_opens,
    EXISTS (SELECT 1 FROM sending_switches WHERE scope = 'installation') AS all_stopped,
    EXISTS (SELECT 1 FROM sending_switches WHERE scope = 'account:' || d.account)
        AS account_stopped,
    coalesce((SELECT until FROM platform_waits WHERE scope = 'send:' || d.account), '')
        AS waits_until,
    EXISTS (SELECT 1 FROM deliveries AS e WHERE e.approval_id = d.approval_id
        AND e.number < d.number AND e.state NOT IN ('sent', 'confirmed')) AS waits_for_part,
    EXISTS (SELECT 1 FROM deliveries AS e WHERE e.approval_id = d.approval_id
        AND e.number < d.number AND e.state IN ('failed', 'canceled', 'expired', 'superseded'))
        AS earlier_ended,
    EXISTS (SELECT 1 FROM deliveries AS e WHERE e.approval_id = d.approval_id
        AND e.state IN ('sent', 'confirmed')) AS begun,
    a.sender <> p.platform || ' ' || p.me AS sender_changed,
    NOT EXISTS (SELECT 1 FROM account_members AS m WHERE m.account = d.account
        AND m.user_id = a.approved_by AND m.role IN ('owner', 'reviewer')) AS approver_gone,
    NOT EXISTS (SELECT 1 FROM messages AS g WHERE g.account = d.account
        AND g.message_id = a.seen_newest AND g.conversation_id = a.conversation_id
        AND g.channel_id = a.channel_id) AS source_moved,
    EXISTS (SELECT message_id, version FROM messages AS g WHERE g.account = d.account
        AND g.conversation_id = a.conversation_id AND g.kind = 'message'
        AND g.sent_at >= a.seen_since AND NOT EXISTS (SELECT 1 FROM deliveries AS e
            WHERE e.account = d.account AND e.message_id = g.message_id)
        EXCEPT SELECT key, value ->> 0 FROM json_each(a.seen)) AS unseen
FROM deliveries AS d JOIN approvals AS a USING (approval_id)
JOIN accounts AS p ON p.account = d.account LEFT JOIN connections AS c ON c.account = d.account;
