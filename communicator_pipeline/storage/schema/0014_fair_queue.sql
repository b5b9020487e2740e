-- Pushes that wait, account after account: a flood of one keeps no other waiting.
CREATE INDEX pushes_waiting_of ON pushes (account, push_id, visible_at) WHERE state = 'waiting';
