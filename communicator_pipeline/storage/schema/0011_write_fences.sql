-- D1's answer to a write can get lost after the write took effect. A batch that writes also writes
-- its fence: sent again, it fails as a whole if it was done before. Kept for a day.

CREATE TABLE write_fences (
    fence TEXT PRIMARY KEY,
    written_at TEXT NOT NULL
) WITHOUT ROWID;
