-- Pushes that wait, account after account: a flood of one keeps no other waiting.
CREATE INDEX pushes_waiting_of ON pushes (account, push_id, visible_at) WHERE state = 'waiting';

-- What is to be done, among all days that ever were: the newest is looked for many times a second.
CREATE INDEX dirty_days_open ON dirty_days (day) WHERE mark > done_mark;
