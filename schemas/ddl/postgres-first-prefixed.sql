-- Chronicle's first Postgres schema with prefixed tables, of 13 August 2025.
CREATE TABLE chronicle_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    claude_session_id text NOT NULL UNIQUE,
    project_path text,
    git_branch text,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE chronicle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES chronicle_sessions (id) ON DELETE CASCADE,
    event_type text NOT NULL CHECK (event_type IN (
        'prompt', 'tool_use', 'session_start', 'session_end', 'notification', 'error'
    )),
    timestamp timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    tool_name text,
    duration_ms integer CHECK (duration_ms >= 0),
    created_at timestamptz DEFAULT now()
);
CREATE INDEX idx_chronicle_sessions_claude_session_id ON chronicle_sessions (claude_session_id);
CREATE INDEX idx_chronicle_sessions_project_path ON chronicle_sessions (project_path);
CREATE INDEX idx_chronicle_sessions_start_time ON chronicle_sessions (start_time DESC);
CREATE INDEX idx_chronicle_events_session_timestamp ON chronicle_events (session_id, timestamp DESC);
CREATE INDEX idx_chronicle_events_type ON chronicle_events (event_type);
CREATE INDEX idx_chronicle_events_tool_name ON chronicle_events (tool_name) WHERE tool_name IS NOT NULL;
CREATE INDEX idx_chronicle_events_data_gin ON chronicle_events USING gin (data);
CREATE INDEX idx_chronicle_events_timestamp ON chronicle_events (timestamp DESC);

ALTER TABLE chronicle_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE chronicle_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Allow all operations on chronicle sessions" ON chronicle_sessions FOR ALL USING (true) WITH CHECK (true);
CREATE POLICY "Allow all operations on chronicle events" ON chronicle_events FOR ALL USING (true) WITH CHECK (true);

-- An event needs a session, a tool event names its tool, and no event comes from the future.
CREATE FUNCTION chronicle_validate_event_data() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM chronicle_sessions WHERE id = NEW.session_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Session % does not exist', NEW.session_id;
    END IF;
    IF NEW.event_type = 'tool_use' AND NEW.tool_name IS NULL THEN
        RAISE EXCEPTION 'Tool events must have a tool_name';
    END IF;
    IF NEW.timestamp > now() + interval '1 minute' THEN
        RAISE EXCEPTION 'Event timestamp cannot be in the future';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER trigger_chronicle_validate_event_data BEFORE INSERT ON chronicle_events
    FOR EACH ROW EXECUTE FUNCTION chronicle_validate_event_data();

-- A session_end event ends its session unless the session has ended before.
CREATE FUNCTION chronicle_update_session_end_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.event_type = 'session_end' THEN
        UPDATE chronicle_sessions SET end_time = NEW.timestamp WHERE id = NEW.session_id AND end_time IS NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER trigger_chronicle_update_session_end_time AFTER INSERT ON chronicle_events
    FOR EACH ROW EXECUTE FUNCTION chronicle_update_session_end_time();

CREATE VIEW chronicle_active_sessions AS
    SELECT s.*,
           count(e.id) AS event_count,
           count(e.id) FILTER (WHERE e.event_type = 'tool_use') AS tool_event_count,
           count(e.id) FILTER (WHERE e.event_type = 'prompt') AS prompt_event_count,
           max(e.timestamp) AS last_activity
      FROM chronicle_sessions AS s LEFT JOIN chronicle_events AS e ON e.session_id = s.id
     WHERE s.end_time IS NULL
     GROUP BY s.id
     ORDER BY s.start_time DESC;
CREATE VIEW chronicle_recent_events AS
    SELECT e.*, s.claude_session_id, s.project_path, s.git_branch
      FROM chronicle_events AS e JOIN chronicle_sessions AS s ON s.id = e.session_id
     WHERE e.created_at >= now() - interval '24 hours'
     ORDER BY e.timestamp DESC;

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
