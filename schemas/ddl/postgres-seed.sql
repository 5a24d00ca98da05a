-- The Postgres layout of Chronicle's migration tutorial: four event types, origin ids, batches, its own history table.
CREATE TABLE chronicle_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    original_sqlite_id text,
    project_path text NOT NULL,
    git_branch text,
    start_time timestamptz NOT NULL DEFAULT now(),
    end_time timestamptz,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'error')),
    event_count integer NOT NULL DEFAULT 0,
    user_id text,
    team_id text DEFAULT 'personal',
    migration_batch text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE chronicle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    original_sqlite_id text,
    session_id uuid NOT NULL REFERENCES chronicle_sessions (id) ON DELETE CASCADE,
    type text NOT NULL CHECK (type IN ('prompt', 'tool_use', 'session_start', 'session_end')),
    timestamp timestamptz NOT NULL DEFAULT now(),
    data jsonb NOT NULL DEFAULT '{}',
    user_id text,
    migration_batch text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE migration_history (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    migration_type text NOT NULL,
    source_backend text NOT NULL,
    target_backend text NOT NULL,
    batch_id text NOT NULL,
    records_migrated integer,
    status text CHECK (status IN ('started', 'completed', 'failed', 'rolled_back')),
    error_message text,
    started_at timestamptz DEFAULT now(),
    completed_at timestamptz
);
CREATE INDEX idx_sessions_original_id ON chronicle_sessions (original_sqlite_id);
CREATE INDEX idx_events_original_id ON chronicle_events (original_sqlite_id);
CREATE INDEX idx_sessions_migration_batch ON chronicle_sessions (migration_batch);
CREATE INDEX idx_events_migration_batch ON chronicle_events (migration_batch);
