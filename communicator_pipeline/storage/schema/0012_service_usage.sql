-- What was used of Cloudflare's services, counted by each machine for itself: its running totals of
-- a day. A machine sends a total and not what was added, so what is sent twice counts once.

CREATE TABLE service_usage (
    day TEXT NOT NULL,                  -- UTC
    account TEXT NOT NULL,              -- for whom; '' for nobody in particular; stays when it goes
    service TEXT NOT NULL,              -- 'd1', 'r2', 'kv', 'queues', 'workers', 'api'
    what TEXT NOT NULL,                 -- 'rows read', 'class a operations', …
    machine TEXT NOT NULL,              -- made up by the machine when it began to count
    count INTEGER NOT NULL,
    PRIMARY KEY (day, account, service, what, machine)
) WITHOUT ROWID;
