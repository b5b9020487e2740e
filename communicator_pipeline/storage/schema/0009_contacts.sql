-- Who is the same person on several platforms: each user says so for themselves.

CREATE TABLE contacts (
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    contact_id TEXT NOT NULL,           -- random
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (user_id, contact_id)
) WITHOUT ROWID;

CREATE INDEX contacts_by_name ON contacts (user_id, name, contact_id);

-- A person is in one contact of a user's at most.
CREATE TABLE contact_people (
    user_id TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
    person_id TEXT NOT NULL,
    contact_id TEXT NOT NULL,
    PRIMARY KEY (user_id, account, person_id),
    FOREIGN KEY (user_id, contact_id) REFERENCES contacts ON DELETE CASCADE
) WITHOUT ROWID;

CREATE INDEX contact_people_by_contact ON contact_people (user_id, contact_id);

-- In which conversations somebody wrote.
CREATE INDEX messages_by_author ON messages (account, author_id, conversation_id);
