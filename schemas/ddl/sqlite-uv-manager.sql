-- The database manager of the single-file hooks of 14 August 2025, after migrate_sqlite_schema.py.
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
    event_type TEXT NOT NULL,
    hook_event_name TEXT,
    timestamp TIMESTAMP,
    data TEXT,
    metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id)
);
CREATE TABLE tool_events (
    id TEXT PRIMARY KEY,
    session_id TEXT,
    event_id TEXT,
    tool_name TEXT NOT NULL,
    tool_type TEXT,
    phase TEXT CHECK (phase IN ('pre', 'post')),
    parameters TEXT,
    result TEXT,
    execution_time_ms INTEGER,
    success BOOLEAN,
    error_message TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id),
    FOREIGN KEY (event_id) REFERENCES events(id)
);
CREATE TABLE prompt_events (
    id TEXT PRIMARY KEY,
    session_id TEXT,
    event_id TEXT,
    prompt_text TEXT,
    prompt_length INTEGER,
    complexity_score REAL,
    intent_classification TEXT,
    context_data TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (session_id) REFERENCES sessions(id),
    FOREIGN KEY (event_id) REFERENCES events(id)
);
CREATE TABLE notification_events (
    id TEXT PRIMARY KEY,
    session_id TEXT REFERENCES sessions(id) ON DELETE CASCADE,
    event_id TEXT REFERENCES events(id) ON DELETE CASCADE,
    notification_type TEXT,
    message TEXT,
    severity TEXT DEFAULT 'info',
    acknowledged BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE lifecycle_events (
    id TEXT PRIMARY KEY,
    session_id TEXT REFERENCES sessions(id) ON DELETE CASCADE,
    event_id TEXT REFERENCES events(id) ON DELETE CASCADE,
    lifecycle_type TEXT,
    previous_state TEXT,
    new_state TEXT,
    trigger_reason TEXT,
    context_snapshot TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE project_context (
    id TEXT PRIMARY KEY,
    session_id TEXT REFERENCES sessions(id) ON DELETE CASCADE,
    file_path TEXT NOT NULL,
    file_type TEXT,
    file_size INTEGER,
    last_modified TIMESTAMP,
    git_status TEXT,
    content_hash TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_events_session ON events(session_id);
CREATE INDEX idx_events_type ON events(event_type);
CREATE INDEX idx_events_timestamp ON events(timestamp);
CREATE INDEX idx_events_session_timestamp ON events(session_id, timestamp DESC);
CREATE INDEX idx_events_type_timestamp ON events(event_type, timestamp DESC);
CREATE INDEX idx_sessions_status ON sessions(source);
CREATE INDEX idx_tool_events_name_phase ON tool_events(tool_name, phase);
CREATE INDEX idx_notification_events_session ON notification_events(session_id);
CREATE INDEX idx_lifecycle_events_session ON lifecycle_events(session_id);
CREATE INDEX idx_project_context_session ON project_context(session_id);
