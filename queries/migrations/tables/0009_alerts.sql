-- Alerts: what somebody has to act on, who did, and who is looked for when nobody does.

CREATE TABLE guardwire.alerts (
    alert_id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    subject text NOT NULL DEFAULT '',
    symbol text,
    condition_type text,
    generation integer NOT NULL DEFAULT 1,
    first_raised_at timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    counted_from timestamptz NOT NULL,
    deadline_at timestamptz,
    observed numeric,
    limit_value numeric,
    occurrences integer NOT NULL DEFAULT 1,
    stands boolean NOT NULL DEFAULT true,
    acknowledged_by text,
    acknowledged_at timestamptz,
    acknowledged_action text,
    hold_until timestamptz,
    snoozed_until timestamptz,
    snooze_reason text,
    level integer NOT NULL DEFAULT 0,
    escalate_at timestamptz,
    next_at timestamptz,
    policy jsonb NOT NULL,
    resolved_at timestamptz,
    voided_at timestamptz
);
CREATE INDEX alerts_by_account ON guardwire.alerts (user_id, raised_at);
CREATE INDEX alerts_open ON guardwire.alerts (user_id) WHERE resolved_at IS NULL OR acknowledged_at IS NULL;
CREATE INDEX alerts_standing ON guardwire.alerts (user_id) WHERE stands;
CREATE INDEX alerts_due ON guardwire.alerts (next_at) WHERE next_at IS NOT NULL;
COMMENT ON TABLE guardwire.alerts IS 'One row per account, kind and subject: its current generation. It is in the state until it is resolved and acknowledged';
COMMENT ON COLUMN guardwire.alerts.alert_id IS 'md5 of account, kind and folded subject';
COMMENT ON COLUMN guardwire.alerts.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.alerts.kind IS 'drawdown, market, unattended, delivery; an open list';
COMMENT ON COLUMN guardwire.alerts.severity IS 'warning or critical';
COMMENT ON COLUMN guardwire.alerts.subject IS 'market: symbol and condition; delivery: the endpoint''s id; empty otherwise';
COMMENT ON COLUMN guardwire.alerts.symbol IS 'market: symbol, or *';
COMMENT ON COLUMN guardwire.alerts.condition_type IS 'market: as in market_alerts';
COMMENT ON COLUMN guardwire.alerts.generation IS 'Grows when the alert is raised again, unless that comes within flap_seconds';
COMMENT ON COLUMN guardwire.alerts.first_raised_at IS 'Time of the row that raised this generation';
COMMENT ON COLUMN guardwire.alerts.raised_at IS 'Time of the row that raised it last';
COMMENT ON COLUMN guardwire.alerts.counted_from IS 'When Guardwire raised this generation, by its clock: the policy counts from here';
COMMENT ON COLUMN guardwire.alerts.deadline_at IS 'End of the countdown of the first raise; null where nothing counts down';
COMMENT ON COLUMN guardwire.alerts.observed IS 'What was measured when it was raised last, %';
COMMENT ON COLUMN guardwire.alerts.limit_value IS 'The limit that it was measured against, %';
COMMENT ON COLUMN guardwire.alerts.occurrences IS 'How often this generation was raised';
COMMENT ON COLUMN guardwire.alerts.stands IS 'The condition is not over; true also of an alert that is resolved because an acknowledged book is flat';
COMMENT ON COLUMN guardwire.alerts.acknowledged_by IS 'The name that acknowledged it; null when nobody did, or when the acknowledgement is over';
COMMENT ON COLUMN guardwire.alerts.acknowledged_at IS 'When it was acknowledged';
COMMENT ON COLUMN guardwire.alerts.acknowledged_action IS 'received, acting or done';
COMMENT ON COLUMN guardwire.alerts.hold_until IS 'When the book has to show that somebody acted';
COMMENT ON COLUMN guardwire.alerts.snoozed_until IS 'Until when the alert does not escalate';
COMMENT ON COLUMN guardwire.alerts.snooze_reason IS 'Why, as it was given';
COMMENT ON COLUMN guardwire.alerts.level IS 'Level of escalation: 0 the stream, 1 webhooks, 2 people, then both';
COMMENT ON COLUMN guardwire.alerts.escalate_at IS 'When the next level is due by the policy; null when there is none';
COMMENT ON COLUMN guardwire.alerts.next_at IS 'When housekeeping has to look at it; null when never';
COMMENT ON COLUMN guardwire.alerts.policy IS 'The row of escalation, copied when this generation was raised';
COMMENT ON COLUMN guardwire.alerts.resolved_at IS 'When the condition was over, or the acknowledged book was flat';
COMMENT ON COLUMN guardwire.alerts.voided_at IS 'When a row that came late showed that it should not have been raised';

CREATE TABLE guardwire.alert_log (
    log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id uuid NOT NULL,
    generation integer NOT NULL,
    user_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    entry text NOT NULL,
    who text,
    detail jsonb
);
CREATE INDEX alert_log_by_alert ON guardwire.alert_log (alert_id, log_id);
CREATE INDEX alert_log_by_age ON guardwire.alert_log USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
COMMENT ON TABLE guardwire.alert_log IS 'Whatever happened to alerts and arming, in order; rows are added and never changed';
COMMENT ON COLUMN guardwire.alert_log.log_id IS 'Order';
COMMENT ON COLUMN guardwire.alert_log.alert_id IS 'As in alerts; of the account''s unattended alert for arming and attendance';
COMMENT ON COLUMN guardwire.alert_log.generation IS 'Of the alert; 0 for arming and attendance';
COMMENT ON COLUMN guardwire.alert_log.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.alert_log.at IS 'When it happened, by the database''s clock';
COMMENT ON COLUMN guardwire.alert_log.entry IS 'raised, repeated, acknowledged, snoozed, escalated, delivered, failed, resolved, voided; armed, disarmed, left';
COMMENT ON COLUMN guardwire.alert_log.who IS 'The name that a client gave; null for Guardwire itself';
COMMENT ON COLUMN guardwire.alert_log.detail IS 'Level, reason, action or status, where there is one';

CREATE TABLE guardwire.escalation (
    user_id uuid PRIMARY KEY,
    webhook_after_seconds integer NOT NULL DEFAULT 10 CHECK (webhook_after_seconds BETWEEN 0 AND 86400),
    people_after_seconds integer NOT NULL DEFAULT 20 CHECK (people_after_seconds BETWEEN 0 AND 86400),
    repeat_seconds integer NOT NULL DEFAULT 30 CHECK (repeat_seconds BETWEEN 5 AND 86400),
    slow_repeat_seconds integer NOT NULL DEFAULT 300 CHECK (slow_repeat_seconds BETWEEN 5 AND 86400),
    give_up_seconds integer NOT NULL DEFAULT 86400 CHECK (give_up_seconds BETWEEN 60 AND 2678400),
    hold_seconds integer NOT NULL DEFAULT 60 CHECK (hold_seconds BETWEEN 1 AND 3600),
    flap_seconds integer NOT NULL DEFAULT 60 CHECK (flap_seconds BETWEEN 0 AND 3600),
    grace_seconds integer NOT NULL DEFAULT 60 CHECK (grace_seconds BETWEEN 1 AND 3600)
);
COMMENT ON TABLE guardwire.escalation IS 'Who is looked for when nobody acknowledges, per account; the row of no_account() holds for accounts without a row';
COMMENT ON COLUMN guardwire.escalation.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.escalation.webhook_after_seconds IS 'From the raise to level 1';
COMMENT ON COLUMN guardwire.escalation.people_after_seconds IS 'From the raise to level 2';
COMMENT ON COLUMN guardwire.escalation.repeat_seconds IS 'Between later levels, until the deadline';
COMMENT ON COLUMN guardwire.escalation.slow_repeat_seconds IS 'Between later levels, after the deadline';
COMMENT ON COLUMN guardwire.escalation.give_up_seconds IS 'From the raise to the last level';
COMMENT ON COLUMN guardwire.escalation.hold_seconds IS 'How long an acknowledgement holds while positions are open';
COMMENT ON COLUMN guardwire.escalation.flap_seconds IS 'A condition that comes back so soon is an occurrence of the same generation';
COMMENT ON COLUMN guardwire.escalation.grace_seconds IS 'From the last beat to the alarm of an armed account that nobody attends';
INSERT INTO guardwire.escalation (user_id) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff');

CREATE TABLE guardwire.endpoints (
    endpoint_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('webhook', 'person')),
    url text NOT NULL,
    secrets text[] NOT NULL DEFAULT '{}',
    description text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at timestamptz,
    disabled_reason text
);
CREATE INDEX endpoints_by_account ON guardwire.endpoints (user_id);
COMMENT ON TABLE guardwire.endpoints IS 'Where alerts are delivered to';
COMMENT ON COLUMN guardwire.endpoints.endpoint_id IS 'Identity';
COMMENT ON COLUMN guardwire.endpoints.user_id IS 'Whose alerts; no_account() for those of every account';
COMMENT ON COLUMN guardwire.endpoints.kind IS 'webhook, or person: an address of apprise';
COMMENT ON COLUMN guardwire.endpoints.url IS 'Address; that of a person may hold a password';
COMMENT ON COLUMN guardwire.endpoints.secrets IS 'webhook: secrets that sign, newest first (whsec_…)';
COMMENT ON COLUMN guardwire.endpoints.description IS 'For people';
COMMENT ON COLUMN guardwire.endpoints.created_at IS 'When it was added';
COMMENT ON COLUMN guardwire.endpoints.disabled_at IS 'Since when nothing is delivered to it';
COMMENT ON COLUMN guardwire.endpoints.disabled_reason IS 'Why';

CREATE TABLE guardwire.deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id uuid NOT NULL,
    generation integer NOT NULL,
    level integer NOT NULL,
    endpoint_id uuid NOT NULL,
    user_id uuid NOT NULL,
    message_id text NOT NULL,
    payload jsonb NOT NULL,
    deadline_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    claimed_by text,
    lease_until timestamptz,
    finished_at timestamptz,
    outcome text,
    last_status integer,
    UNIQUE (alert_id, generation, level, endpoint_id)
);
CREATE INDEX deliveries_due ON guardwire.deliveries (due_at) WHERE finished_at IS NULL;
CREATE INDEX deliveries_finished ON guardwire.deliveries (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX deliveries_by_endpoint ON guardwire.deliveries (endpoint_id, delivery_id);
COMMENT ON TABLE guardwire.deliveries IS 'The outbox: one row for each alert, generation, level and endpoint';
COMMENT ON COLUMN guardwire.deliveries.delivery_id IS 'Identity';
COMMENT ON COLUMN guardwire.deliveries.alert_id IS 'As in alerts; a random one for a test';
COMMENT ON COLUMN guardwire.deliveries.generation IS 'Of the alert';
COMMENT ON COLUMN guardwire.deliveries.level IS 'Of escalation';
COMMENT ON COLUMN guardwire.deliveries.endpoint_id IS 'As in endpoints, which may be deleted meanwhile';
COMMENT ON COLUMN guardwire.deliveries.user_id IS 'Whose alert';
COMMENT ON COLUMN guardwire.deliveries.message_id IS 'alert_id.generation.level: the same at each attempt';
COMMENT ON COLUMN guardwire.deliveries.payload IS 'The message';
COMMENT ON COLUMN guardwire.deliveries.deadline_at IS 'Of the alert; attempts are frequent until then';
COMMENT ON COLUMN guardwire.deliveries.created_at IS 'When the level was reached';
COMMENT ON COLUMN guardwire.deliveries.due_at IS 'When to attempt it; while a node does, the end of its lease';
COMMENT ON COLUMN guardwire.deliveries.attempts IS 'Attempts that were begun';
COMMENT ON COLUMN guardwire.deliveries.claimed_by IS 'Node that attempted it last';
COMMENT ON COLUMN guardwire.deliveries.lease_until IS 'Until when no other node attempts it';
COMMENT ON COLUMN guardwire.deliveries.finished_at IS 'When it was done with';
COMMENT ON COLUMN guardwire.deliveries.outcome IS 'delivered, failed, gone (410), or superseded by an acknowledgement or the end of the alert';
COMMENT ON COLUMN guardwire.deliveries.last_status IS 'HTTP status of the last attempt; null when there was none';

CREATE TABLE guardwire.arming (
    user_id uuid PRIMARY KEY,
    armed boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz,
    reason text,
    changed_by text
);
COMMENT ON TABLE guardwire.arming IS 'Whether somebody has to attend an account; an account without a row is not armed';
COMMENT ON COLUMN guardwire.arming.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.arming.armed IS 'Somebody has to attend it';
COMMENT ON COLUMN guardwire.arming.since IS 'Since when';
COMMENT ON COLUMN guardwire.arming.until IS 'disarmed: when it is armed again';
COMMENT ON COLUMN guardwire.arming.reason IS 'Why, as it was given';
COMMENT ON COLUMN guardwire.arming.changed_by IS 'The name that changed it; null for the end of until';

CREATE TABLE guardwire.attendants (
    user_id uuid NOT NULL,
    name text NOT NULL,
    since timestamptz NOT NULL,
    last_beat_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    left_at timestamptz,
    PRIMARY KEY (user_id, name)
) WITH (fillfactor = 70);
COMMENT ON TABLE guardwire.attendants IS 'The bots that attend accounts; beats move last_beat_at and lease_until, and no revision';
COMMENT ON COLUMN guardwire.attendants.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.attendants.name IS 'As the bot calls itself';
COMMENT ON COLUMN guardwire.attendants.since IS 'Since when it attends';
COMMENT ON COLUMN guardwire.attendants.last_beat_at IS 'Its last beat, later by the outages of the database since';
COMMENT ON COLUMN guardwire.attendants.lease_until IS 'When it no longer attends unless it beats';
COMMENT ON COLUMN guardwire.attendants.left_at IS 'When it left, or its lease was over; null while it attends';

CREATE TABLE guardwire.attendance (
    user_id uuid PRIMARY KEY,
    status text NOT NULL,
    status_since timestamptz NOT NULL,
    last_seen_at timestamptz,
    grace_until timestamptz,
    due_at timestamptz
);
CREATE INDEX attendance_due ON guardwire.attendance (due_at) WHERE due_at IS NOT NULL;
COMMENT ON TABLE guardwire.attendance IS 'Attendance as the state shows it: each change of it raises the account''s revision';
COMMENT ON COLUMN guardwire.attendance.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.attendance.status IS 'attended, unattended or disarmed';
COMMENT ON COLUMN guardwire.attendance.status_since IS 'Since when';
COMMENT ON COLUMN guardwire.attendance.last_seen_at IS 'unattended: the last beat before';
COMMENT ON COLUMN guardwire.attendance.grace_until IS 'unattended: when the alarm is raised';
COMMENT ON COLUMN guardwire.attendance.due_at IS 'When housekeeping has to look at it; moved lazily';

CREATE TABLE guardwire.attendance_clock (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    kept_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE guardwire.attendance_clock IS 'One row: when housekeeping looked at leases last; they are extended by the time in which nobody could';
COMMENT ON COLUMN guardwire.attendance_clock.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.attendance_clock.kept_at IS 'When';
INSERT INTO guardwire.attendance_clock DEFAULT VALUES;

ALTER TABLE guardwire.configuration ADD COLUMN deliveries_on text;
COMMENT ON COLUMN guardwire.configuration.deliveries_on IS 'System identifier and timeline of the server that delivers; a restored or copied one waits for an operator';
UPDATE guardwire.configuration
SET deliveries_on = concat((SELECT system_identifier FROM pg_control_system()), '.', (SELECT timeline_id FROM pg_control_checkpoint()));

-- Where a guard is critical now, reading the history raises the alert.
UPDATE guardwire.accounts AS a SET ready = false
WHERE a.ready AND EXISTS (SELECT FROM guardwire.breaches AS b WHERE b.user_id = a.user_id AND b.cleared_at IS NULL);
