-- The SQLite side of the migration tutorial, as its target: integer ids, the ids of Supabase, its own history.
CREATE TABLE chronicle_sessions (
    id INTEGER PRIMARY KEY,
    original_supabase_id TEXT,
    project_path TEXT NOT NULL,
    git_branch TEXT,
    start_time TEXT,
    end_time TEXT,
    status TEXT,
    event_count INTEGER,
    created_at TEXT,
    updated_at TEXT
);
CREATE TABLE chronicle_events (
    id INTEGER PRIMARY KEY,
    original_supabase_id TEXT,
    session_id INTEGER REFERENCES chronicle_sessions(id),
    type TEXT,
    timestamp TEXT,
    data TEXT,
    created_at TEXT
);
CREATE TABLE migration_history (
    id TEXT PRIMARY KEY,
    migration_type TEXT NOT NULL,
    source_backend TEXT NOT NULL,
    target_backend TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    records_migrated INTEGER,
    status TEXT CHECK (status IN ('started', 'completed', 'failed', 'rolled_back')),
    error_message TEXT,
    started_at TEXT DEFAULT CURRENT_TIMESTAMP,
    completed_at TEXT
);
