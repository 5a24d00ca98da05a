-- The single-file hooks of 14 August 2025, as the session_start hook made it.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE,
    start_time TIMESTAMP,
    end_time TIMESTAMP,
    project_path TEXT,
    git_branch TEXT,
    git_commit TEXT,
    source TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    session_id TEXT,
    event_type TEXT,
    hook_event_name TEXT,
    timestamp TIMESTAMP,
    data TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id)
);
