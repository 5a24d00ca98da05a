-- The strict tables of 13 August 2025: six event types.
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
    event_type TEXT NOT NULL CHECK (event_type IN (
        'prompt', 'tool_use', 'session_start', 'session_end', 'notification',
        'error'
    )),
    timestamp TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{}',
    tool_name TEXT,
    duration_ms INTEGER CHECK (duration_ms >= 0),
    created_at TEXT DEFAULT (datetime('now', 'utc')),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX idx_sessions_claude_session_id ON sessions(claude_session_id);
CREATE INDEX idx_sessions_project_path ON sessions(project_path);
CREATE INDEX idx_sessions_start_time ON sessions(start_time DESC);
CREATE INDEX idx_events_session_id ON events(session_id);
CREATE INDEX idx_events_timestamp ON events(timestamp DESC);
CREATE INDEX idx_events_session_timestamp ON events(session_id, timestamp DESC);
CREATE INDEX idx_events_type ON events(event_type);
CREATE INDEX idx_events_tool_name ON events(tool_name) WHERE tool_name IS NOT NULL;

CREATE VIEW active_sessions AS
    SELECT s.*,
           count(e.id) AS event_count,
           count(CASE WHEN e.event_type = 'tool_use' THEN 1 END) AS tool_event_count,
           count(CASE WHEN e.event_type = 'prompt' THEN 1 END) AS prompt_event_count,
           max(e.timestamp) AS last_activity
      FROM sessions AS s LEFT JOIN events AS e ON e.session_id = s.id
     WHERE s.end_time IS NULL
     GROUP BY s.id
     ORDER BY s.start_time DESC;
CREATE VIEW recent_events AS
    SELECT e.*, s.claude_session_id, s.project_path, s.git_branch
      FROM events AS e JOIN sessions AS s ON s.id = e.session_id
     WHERE e.created_at >= datetime('now', '-24 hours', 'utc')
     ORDER BY e.timestamp DESC;

CREATE TRIGGER trigger_update_session_end_time AFTER INSERT ON events
WHEN NEW.event_type = 'session_end'
BEGIN
    UPDATE sessions SET end_time = NEW.timestamp WHERE id = NEW.session_id AND end_time IS NULL;
END;
CREATE TRIGGER trigger_validate_event_data BEFORE INSERT ON events
BEGIN
    SELECT CASE WHEN (SELECT count(*) FROM sessions WHERE id = NEW.session_id) = 0
        THEN RAISE(ABORT, 'Session does not exist') END;
    SELECT CASE WHEN NEW.event_type = 'tool_use' AND NEW.tool_name IS NULL
        THEN RAISE(ABORT, 'Tool events must have a tool_name') END;
    SELECT CASE WHEN NEW.timestamp = '' OR NEW.timestamp IS NULL
        THEN RAISE(ABORT, 'Event timestamp cannot be empty') END;
END;
