-- Chronicle's own Postgres schema with the users and teams of the team deployment tutorial.
CREATE TABLE chronicle_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    claude_session_id text NOT NULL CONSTRAINT chronicle_sessions_claude_session_id_key UNIQUE,
    project_path text,
    git_branch text,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    metadata jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now()
);
CREATE TABLE chronicle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid CONSTRAINT chronicle_events_session_id_fkey
        REFERENCES chronicle_sessions (id) ON DELETE CASCADE,
    event_type text NOT NULL CONSTRAINT chronicle_events_event_type_check CHECK (event_type IN (
        'session_start', 'notification', 'error', 'pre_tool_use', 'post_tool_use',
        'user_prompt_submit', 'stop', 'subagent_stop', 'pre_compact'
    )),
    timestamp timestamptz NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    tool_name text,
    duration_ms integer CONSTRAINT chronicle_events_duration_ms_check CHECK (duration_ms >= 0),
    created_at timestamptz DEFAULT now()
);

CREATE INDEX idx_chronicle_sessions_claude_session_id ON chronicle_sessions (claude_session_id);
CREATE INDEX idx_chronicle_sessions_project_path ON chronicle_sessions (project_path);
CREATE INDEX idx_chronicle_sessions_start_time ON chronicle_sessions (start_time DESC);
CREATE INDEX idx_chronicle_events_session_timestamp ON chronicle_events (session_id, timestamp DESC);
CREATE INDEX idx_chronicle_events_type ON chronicle_events (event_type);
CREATE INDEX idx_chronicle_events_tool_name ON chronicle_events (tool_name) WHERE tool_name IS NOT NULL;
CREATE INDEX idx_chronicle_events_metadata_gin ON chronicle_events USING gin (metadata);
CREATE INDEX idx_chronicle_events_timestamp ON chronicle_events (timestamp DESC);

ALTER TABLE chronicle_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE chronicle_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY "Allow all operations on chronicle_sessions" ON chronicle_sessions
    FOR ALL USING (true) WITH CHECK (true);
CREATE POLICY "Allow all operations on chronicle_events" ON chronicle_events
    FOR ALL USING (true) WITH CHECK (true);

-- An event needs a session, a tool event names its tool, and no event comes from the future.
CREATE FUNCTION chronicle_validate_event_data() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM chronicle_sessions WHERE id = NEW.session_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Session % does not exist', NEW.session_id;
    END IF;
    IF NEW.tool_name IS NULL AND NEW.event_type IN ('pre_tool_use', 'post_tool_use') THEN
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

-- A stop event ends its session unless the session has ended before.
CREATE FUNCTION chronicle_update_session_end_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.event_type = 'stop' THEN
        UPDATE chronicle_sessions SET end_time = NEW.timestamp
         WHERE id = NEW.session_id AND end_time IS NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER trigger_chronicle_update_session_end_time AFTER INSERT ON chronicle_events
    FOR EACH ROW EXECUTE FUNCTION chronicle_update_session_end_time();

CREATE VIEW chronicle_active_sessions AS
    SELECT s.*,
           count(e.id) AS event_count,
           count(e.id) FILTER (WHERE e.event_type IN ('pre_tool_use', 'post_tool_use')) AS tool_event_count,
           count(e.id) FILTER (WHERE e.event_type = 'user_prompt_submit') AS prompt_event_count,
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

-- What Chronicle's dashboard needs on Supabase: its roles may use the tables, changes are sent live.
-- Elsewhere neither the roles nor the publication exist; a role that may not alter the publication skips this step.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'anon')
       AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated') THEN
        GRANT ALL ON chronicle_sessions, chronicle_events TO anon, authenticated;
        GRANT SELECT ON chronicle_active_sessions, chronicle_recent_events TO anon, authenticated;
    END IF;
    BEGIN
        IF EXISTS (SELECT FROM pg_catalog.pg_publication
                    WHERE pubname = 'supabase_realtime' AND NOT puballtables) THEN
            ALTER PUBLICATION supabase_realtime ADD TABLE chronicle_sessions, chronicle_events;
        END IF;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE WARNING 'the tables are not in the publication supabase_realtime: %', SQLERRM;
    END;
END
$$;

ALTER TABLE chronicle_sessions
    ADD COLUMN user_id text,
    ADD COLUMN team_id text DEFAULT 'default-team';
ALTER TABLE chronicle_events ADD COLUMN user_id text;
CREATE TABLE chronicle_users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    claude_user_id text NOT NULL UNIQUE,
    display_name text NOT NULL,
    email text,
    team_id text DEFAULT 'default-team',
    role text DEFAULT 'developer' CHECK (role IN ('admin', 'lead', 'developer', 'viewer')),
    data_sharing_level text DEFAULT 'team' CHECK (data_sharing_level IN ('private', 'team', 'public')),
    created_at timestamptz DEFAULT now(),
    last_active timestamptz DEFAULT now()
);
CREATE TABLE chronicle_audit_log (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    accessed_by text NOT NULL,
    accessed_user_data text NOT NULL,
    access_type text NOT NULL,
    timestamp timestamptz DEFAULT now()
);
CREATE INDEX idx_sessions_team_user ON chronicle_sessions (team_id, user_id);
CREATE INDEX idx_users_team ON chronicle_users (team_id);

-- Who sees what is decided by Supabase's auth.uid(), which a plain server does not have. The tutorial's audit
-- trigger (AFTER SELECT) is not valid SQL and stays out.
DO $$
BEGIN
    IF to_regprocedure('auth.uid()') IS NOT NULL THEN
        CREATE POLICY "Users can see team sessions" ON chronicle_sessions FOR SELECT USING (
            team_id = (SELECT team_id FROM chronicle_users WHERE claude_user_id = auth.uid()::text));
        CREATE POLICY "Users can insert own sessions" ON chronicle_sessions
            FOR INSERT WITH CHECK (user_id = auth.uid()::text);
        CREATE POLICY "Users can see team events" ON chronicle_events FOR SELECT USING (
            session_id IN (SELECT id FROM chronicle_sessions WHERE team_id =
                (SELECT team_id FROM chronicle_users WHERE claude_user_id = auth.uid()::text)));
    END IF;
END
$$;
