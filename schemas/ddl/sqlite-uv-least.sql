-- The single-file hooks of 14 August 2025, as the notification and pre_compact hooks made it.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    claude_session_id TEXT UNIQUE,
    start_time TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    session_id TEXT,
    event_type TEXT,
    hook_event_name TEXT,
    timestamp TIMESTAMP,
    data TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
