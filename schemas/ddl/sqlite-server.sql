-- The SQLite layout of Chronicle's local server; its files are in WAL mode, which is set by the program that creates the file.
CREATE TABLE chronicle_sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE NOT NULL,
    project_path TEXT,
    git_branch TEXT,
    start_time TEXT NOT NULL,
    end_time TEXT,
    metadata TEXT DEFAULT '{}',
    event_count INTEGER DEFAULT 0,
    created_at TEXT DEFAULT (datetime('now', 'utc')),
    updated_at TEXT DEFAULT (datetime('now', 'utc'))
);
CREATE TABLE chronicle_events (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}',
    tool_name TEXT,
    duration_ms INTEGER CHECK (duration_ms >= 0),
    created_at TEXT DEFAULT (datetime('now', 'utc')),
    FOREIGN KEY (session_id) REFERENCES chronicle_sessions(id) ON DELETE CASCADE
);
CREATE INDEX idx_chronicle_sessions_claude_session_id ON chronicle_sessions(claude_session_id);
CREATE INDEX idx_chronicle_sessions_project_path ON chronicle_sessions(project_path);
CREATE INDEX idx_chronicle_sessions_start_time ON chronicle_sessions(start_time DESC);
CREATE INDEX idx_chronicle_events_session_timestamp ON chronicle_events(session_id, timestamp DESC);
CREATE INDEX idx_chronicle_events_type ON chronicle_events(event_type);
CREATE INDEX idx_chronicle_events_tool_name ON chronicle_events(tool_name) WHERE tool_name IS NOT NULL;
CREATE INDEX idx_chronicle_events_timestamp ON chronicle_events(timestamp DESC);
CREATE INDEX idx_chronicle_events_session_id ON chronicle_events(session_id);

-- Two columns of this view are named event_count: the stored one and the counted one.
CREATE VIEW chronicle_active_sessions AS
    SELECT s.*,
           count(e.id) AS event_count,
           sum(e.event_type IN ('pre_tool_use', 'post_tool_use')) AS tool_event_count,
           sum(e.event_type = 'user_prompt_submit') AS prompt_event_count,
           max(e.timestamp) AS last_activity
      FROM chronicle_sessions AS s LEFT JOIN chronicle_events AS e ON e.session_id = s.id
     WHERE s.end_time IS NULL
     GROUP BY s.id
     ORDER BY s.start_time DESC;
CREATE VIEW chronicle_recent_events AS
    SELECT e.*, s.claude_session_id, s.project_path, s.git_branch
      FROM chronicle_events AS e JOIN chronicle_sessions AS s ON s.id = e.session_id
     WHERE e.created_at >= datetime('now', '-24 hours', 'utc')
     ORDER BY e.timestamp DESC;

CREATE TRIGGER trigger_update_session_end_time AFTER INSERT ON chronicle_events
WHEN NEW.event_type = 'stop' AND json_extract(NEW.metadata, '$.session_termination') = 1
BEGIN
    UPDATE chronicle_sessions SET end_time = NEW.timestamp, updated_at = datetime('now', 'utc')
     WHERE id = NEW.session_id AND end_time IS NULL;
END;
CREATE TRIGGER trigger_update_session_event_count AFTER INSERT ON chronicle_events
BEGIN
    UPDATE chronicle_sessions SET event_count = event_count + 1, updated_at = datetime('now', 'utc')
     WHERE id = NEW.session_id;
END;
CREATE TRIGGER trigger_sessions_updated_at BEFORE UPDATE ON chronicle_sessions
BEGIN
    UPDATE chronicle_sessions SET updated_at = datetime('now', 'utc') WHERE id = OLD.id;
END;

CREATE TABLE _schema_version (
    version INTEGER PRIMARY KEY,
    applied_at TEXT DEFAULT (datetime('now', 'utc'))
);
INSERT INTO _schema_version (version) VALUES (1);
