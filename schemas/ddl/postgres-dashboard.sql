-- The tables of the dashboard's setup guide.
CREATE TABLE chronicle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id text NOT NULL,
    event_type text NOT NULL,
    event_data jsonb,
    timestamp timestamptz DEFAULT now(),
    tool_name text,
    project_path text,
    git_branch text,
    environment text DEFAULT 'development',
    created_at timestamptz DEFAULT now()
);
CREATE TABLE chronicle_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id text NOT NULL UNIQUE,
    project_path text,
    git_branch text,
    started_at timestamptz DEFAULT now(),
    ended_at timestamptz,
    status text DEFAULT 'active',
    environment text DEFAULT 'development',
    metadata jsonb,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX idx_chronicle_events_session_id ON chronicle_events (session_id);
CREATE INDEX idx_chronicle_events_timestamp ON chronicle_events (timestamp DESC);
CREATE INDEX idx_chronicle_events_type ON chronicle_events (event_type);
CREATE INDEX idx_chronicle_sessions_status ON chronicle_sessions (status);
CREATE INDEX idx_chronicle_sessions_started_at ON chronicle_sessions (started_at DESC);

ALTER TABLE chronicle_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE chronicle_sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Enable read access for all users" ON chronicle_events FOR SELECT USING (true);
CREATE POLICY "Enable insert access for all users" ON chronicle_events FOR INSERT WITH CHECK (true);
CREATE POLICY "Enable read access for all users" ON chronicle_sessions FOR SELECT USING (true);
CREATE POLICY "Enable insert/update access for all users" ON chronicle_sessions FOR ALL WITH CHECK (true);

-- On Supabase the publication notifies the dashboard of changes. Elsewhere it may not exist, or this role may not alter it; the tables are then not published.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_publication
                WHERE pubname = 'supabase_realtime' AND NOT puballtables) THEN
        ALTER PUBLICATION supabase_realtime ADD TABLE chronicle_events, chronicle_sessions;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the tables are not in the publication supabase_realtime: %', SQLERRM;
END
$$;
