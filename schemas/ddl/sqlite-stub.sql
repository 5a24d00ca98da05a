-- The stub of install.py: tables for the server to find, not for data.
CREATE TABLE chronicle_sessions (
    id TEXT PRIMARY KEY,
    created_at TIMESTAMP
);
CREATE TABLE chronicle_events (
    id TEXT PRIMARY KEY,
    session_id TEXT,
    event_type TEXT,
    timestamp TIMESTAMP
);
