-- Whether a worker leaves history to runs that Dagster launches: then the sensor asks for them.
ALTER TABLE workers ADD COLUMN leaves_history INTEGER NOT NULL DEFAULT 0;
