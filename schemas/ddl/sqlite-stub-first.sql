-- The stub of install.sh: the sessions alone.
CREATE TABLE chronicle_sessions (
    id TEXT PRIMARY KEY,
    created_at TIMESTAMP
);
