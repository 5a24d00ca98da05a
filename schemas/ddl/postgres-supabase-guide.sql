-- The tables of Chronicle's Supabase guide. Row level security is a recommendation there, not part of them.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id varchar(255) NOT NULL UNIQUE,
    project_name varchar(255),
    git_branch varchar(255),
    git_commit varchar(40),
    working_directory text,
    environment jsonb,
    started_at timestamptz DEFAULT now(),
    ended_at timestamptz,
    status varchar(50) DEFAULT 'active',
    metadata jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE TABLE events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_type varchar(100) NOT NULL,
    source_app varchar(100),
    timestamp timestamptz DEFAULT now(),
    data jsonb NOT NULL,
    metadata jsonb DEFAULT '{}',
    processed_at timestamptz,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE tool_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_id uuid REFERENCES events (id) ON DELETE CASCADE,
    tool_name varchar(255) NOT NULL,
    tool_type varchar(100),
    phase varchar(20) CHECK (phase IN ('pre', 'post')),
    parameters jsonb,
    result jsonb,
    execution_time_ms integer,
    success boolean,
    error_message text,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE prompt_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_id uuid REFERENCES events (id) ON DELETE CASCADE,
    prompt_text text,
    prompt_length integer,
    complexity_score real,
    intent_classification varchar(100),
    context_data jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE notification_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_id uuid REFERENCES events (id) ON DELETE CASCADE,
    notification_type varchar(100),
    message text,
    severity varchar(20) DEFAULT 'info',
    acknowledged boolean DEFAULT false,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE lifecycle_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_id uuid REFERENCES events (id) ON DELETE CASCADE,
    lifecycle_type varchar(50),
    previous_state varchar(50),
    new_state varchar(50),
    trigger_reason text,
    context_snapshot jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE project_context (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    file_path text NOT NULL,
    file_type varchar(50),
    file_size bigint,
    last_modified timestamptz,
    git_status varchar(20),
    content_hash varchar(64),
    created_at timestamptz DEFAULT now()
);
CREATE INDEX idx_events_session_timestamp ON events (session_id, timestamp DESC);
CREATE INDEX idx_events_type_timestamp ON events (event_type, timestamp DESC);
CREATE INDEX idx_events_source_timestamp ON events (source_app, timestamp DESC);
CREATE INDEX idx_events_data_gin ON events USING gin (data);
CREATE INDEX idx_sessions_metadata_gin ON sessions USING gin (metadata);
CREATE INDEX idx_tool_events_name_phase ON tool_events (tool_name, phase);
CREATE INDEX idx_sessions_active ON sessions (started_at DESC) WHERE status = 'active';

-- On Supabase the publication notifies the dashboard of changes. Elsewhere it may not exist, or this role may not alter it; the tables are then not published.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_publication
                WHERE pubname = 'supabase_realtime' AND NOT puballtables) THEN
        ALTER PUBLICATION supabase_realtime ADD TABLE events, sessions, tool_events;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the tables are not in the publication supabase_realtime: %', SQLERRM;
END
$$;
