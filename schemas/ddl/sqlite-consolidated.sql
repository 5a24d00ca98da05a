-- The tables of the consolidated hooks of 14 August 2025: as the strict ones, without checks and triggers.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE NOT NULL,
    project_path TEXT,
    git_branch TEXT,
    start_time TEXT NOT NULL,
    end_time TEXT,
    created_at TEXT DEFAULT (datetime('now', 'utc'))
);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{}',
    tool_name TEXT,
    duration_ms INTEGER,
    created_at TEXT DEFAULT (datetime('now', 'utc')),
    FOREIGN KEY (session_id) REFERENCES sessions(id)
);
CREATE INDEX idx_sessions_claude_session_id ON sessions(claude_session_id);
CREATE INDEX idx_events_session_id ON events(session_id);
