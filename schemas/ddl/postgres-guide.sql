-- The tables of Chronicle's installation guide.
CREATE TABLE chronicle_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_path text NOT NULL,
    git_branch text,
    start_time timestamptz NOT NULL DEFAULT now(),
    end_time timestamptz,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'error')),
    event_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE chronicle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid NOT NULL REFERENCES chronicle_sessions (id) ON DELETE CASCADE,
    type text NOT NULL CHECK (type IN ('prompt', 'tool_use', 'session_start', 'session_end')),
    timestamp timestamptz NOT NULL DEFAULT now(),
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_events_session_id ON chronicle_events (session_id);
CREATE INDEX idx_events_timestamp ON chronicle_events (timestamp DESC);
CREATE INDEX idx_events_type ON chronicle_events (type);
CREATE INDEX idx_sessions_status ON chronicle_sessions (status);
CREATE INDEX idx_sessions_start_time ON chronicle_sessions (start_time DESC);

-- On Supabase the publication notifies the dashboard of changes. Elsewhere it may not exist, or this role may not alter it; the tables are then not published.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_publication
                WHERE pubname = 'supabase_realtime' AND NOT puballtables) THEN
        ALTER PUBLICATION supabase_realtime ADD TABLE chronicle_sessions, chronicle_events;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the tables are not in the publication supabase_realtime: %', SQLERRM;
END
$$;
