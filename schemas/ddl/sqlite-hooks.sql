-- The SQLite layout that Chronicle's hooks create: what most installations hold.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE,
    start_time TIMESTAMP,
    end_time TIMESTAMP,
    project_path TEXT,
    git_branch TEXT,
    metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{}',
    tool_name TEXT,
    duration_ms INTEGER CHECK (duration_ms >= 0),
    created_at TEXT DEFAULT (datetime('now', 'utc')),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX idx_events_session ON events(session_id);
CREATE INDEX idx_events_type ON events(event_type);
CREATE INDEX idx_events_timestamp ON events(timestamp);
