-- The tables that setup_supabase_schema.py prints.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    claude_session_id text NOT NULL UNIQUE,
    start_time timestamptz DEFAULT now(),
    end_time timestamptz,
    project_path text,
    git_branch text,
    git_commit text,
    source text,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE TABLE events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_type text NOT NULL,
    hook_event_name text,
    timestamp timestamptz DEFAULT now(),
    data jsonb DEFAULT '{}',
    metadata jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now()
);
CREATE TABLE tool_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
    event_id uuid REFERENCES events (id) ON DELETE CASCADE,
    tool_name text NOT NULL,
    tool_type text,
    phase text CHECK (phase IN ('pre', 'post')),
    parameters jsonb,
    result jsonb,
    execution_time_ms integer,
    success boolean DEFAULT true,
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
    intent_classification text,
    context_data jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX idx_events_session_id ON events (session_id);
CREATE INDEX idx_events_event_type ON events (event_type);
CREATE INDEX idx_events_timestamp ON events (timestamp);
CREATE INDEX idx_tool_events_session_id ON tool_events (session_id);
CREATE INDEX idx_tool_events_tool_name ON tool_events (tool_name);
CREATE INDEX idx_prompt_events_session_id ON prompt_events (session_id);

CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$$;
CREATE TRIGGER update_sessions_updated_at BEFORE UPDATE ON sessions
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
