-- The tables of config/models.py, of 14 August 2025: all times are texts without a default.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE NOT NULL,
    project_path TEXT,
    git_branch TEXT,
    start_time TEXT,
    end_time TEXT,
    created_at TEXT,
    updated_at TEXT
);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    data TEXT NOT NULL,
    tool_name TEXT,
    duration_ms INTEGER,
    created_at TEXT,
    updated_at TEXT,
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX idx_events_session_id ON events(session_id);
CREATE INDEX idx_events_timestamp ON events(timestamp);
CREATE INDEX idx_events_session_timestamp ON events(session_id, timestamp);
CREATE INDEX idx_events_type ON events(event_type);
CREATE INDEX idx_events_tool_name ON events(tool_name);
CREATE INDEX idx_sessions_claude_session_id ON sessions(claude_session_id);
