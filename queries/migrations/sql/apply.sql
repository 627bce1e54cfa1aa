-- Applying: what the rows of one commit make of the accounts that they concern. Live commits, notes and history come here.

-- Makes the newest usable rate of each pair among these rows current; the accounts whose book it converts.
CREATE FUNCTION guardwire.apply_fx(ids uuid[], arrived_at timestamptz) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    concerned uuid[];
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'fx', f.id::text, 'rate' FROM guardwire.fx_rows() AS f
    WHERE f.id = ANY (ids) AND (f.base IS NULL OR f.quote IS NULL OR f.rate IS NULL);
    WITH moved AS (
        INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
        SELECT DISTINCT ON (f.base, f.quote) f.base, f.quote, f.rate, coalesce(f.at, arrived_at)
        FROM unnest(ids) WITH ORDINALITY AS k (id, nth) JOIN guardwire.fx_rows() AS f ON f.id = k.id
        WHERE f.base IS NOT NULL AND f.quote IS NOT NULL AND f.rate IS NOT NULL
        ORDER BY f.base, f.quote, coalesce(f.at, arrived_at) DESC, k.nth DESC
        ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of
            WHERE c.as_of <= excluded.as_of
        RETURNING c.base, c.quote
    )
    SELECT array_agg(DISTINCT p.user_id) INTO concerned
    FROM moved AS m
    JOIN guardwire.positions AS p ON p.is_open AND p.quote_currency IN (m.base, m.quote)
    JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.currency IN (m.base, m.quote) AND a.currency <> p.quote_currency;
    RETURN concerned;
END
$$;

-- The accounts that hold open positions of these symbols.
CREATE FUNCTION guardwire.holders_of(symbols text[]) RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT array_agg(DISTINCT p.user_id) FROM guardwire.positions AS p WHERE p.is_open AND upper(p.symbol) = ANY (symbols));
END
$$;

-- What one lot of these symbols is has changed. Not for accounts whose history is being read: whoever reads it looks at the
-- instruments last.
CREATE FUNCTION guardwire.apply_instruments(symbols text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.put_positions('{}', ARRAY(
        SELECT guardwire.reckoned(guardwire.with_instrument(p))
        FROM guardwire.positions AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.ready
        WHERE p.is_open AND upper(p.symbol) = ANY (symbols)));
END
$$;

-- Applies what an operator changed in an account's limits.
CREATE FUNCTION guardwire.apply_limits(accounts uuid[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account uuid;
    a guardwire.accounts;
    l public.guard_limits;
    held guardwire.market_alerts;
    m guardwire.market_alerts;
BEGIN
    FOREACH account IN ARRAY accounts LOOP
        l := guardwire.limits_of(account);
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
        CONTINUE WHEN NOT a.ready;
        IF a.peak_since IS DISTINCT FROM l.peak_since THEN
            PERFORM guardwire.read_equity(account, guardwire.noted_equity());
        END IF;
        UPDATE guardwire.accounts AS o SET sync_due_at = arrived_at WHERE o.user_id = account AND o.source = 'live';
        PERFORM guardwire.judge_drawdown(account, 'limits-' || a.revision, arrived_at, a.revision, 0);
        FOR held IN SELECT o.* FROM guardwire.market_alerts AS o WHERE o.user_id = account LOOP
            m := held;
            m.alert_type := guardwire.market_level(m.condition_type, m.gap_pct, m.spread_pct, l);
            m.expires_at := m.detected_at + make_interval(secs => l.alert_window_seconds);
            UPDATE guardwire.market_alerts AS o SET alert_type = m.alert_type, expires_at = m.expires_at
            WHERE o.user_id = account AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
            PERFORM guardwire.note_market_level(held.alert_type, m, arrived_at);
        END LOOP;
    END LOOP;
END
$$;

-- Records rows of the log, sorted by account, ticket and arrival, and applies them to those accounts that are ready. Returns
-- the positions as they are now where that is all that a reader must learn; otherwise null.
CREATE FUNCTION guardwire.apply_log(
    rows guardwire.log_row[], users uuid[], readies boolean[], arrived_at timestamptz
) RETURNS guardwire.positions[] LANGUAGE plpgsql AS $$
DECLARE
    -- A sync also ends a silence, and an error.
    plain boolean := true = ALL (readies) AND NOT EXISTS (
        SELECT FROM guardwire.accounts AS a
        WHERE a.user_id = ANY (users) AND (a.source <> 'live' OR a.error_message IS NOT NULL));
    moved guardwire.positions[];
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
    SELECT 'log', r.id::text, r.user_id, CASE WHEN r.user_id IS NULL THEN 'user' ELSE 'ticket' END
    FROM unnest(rows) AS r
    WHERE r.user_id IS NULL OR (r.kind IN ('open', 'close') AND r.ticket IS NULL);
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, inserted)
    SELECT r.user_id, r.revision, r.ordinal, r.id, r.inserted FROM unnest(rows) AS r WHERE r.user_id IS NOT NULL;
    IF false = ANY (readies) OR EXISTS (SELECT FROM unnest(rows) AS r WHERE r.user_id IS NULL) THEN
        SELECT array_agg(r ORDER BY r.user_id, r.ticket, r.ordinal) INTO rows
        FROM unnest(rows) AS r JOIN unnest(users, readies) AS u (user_id, ready) ON u.user_id = r.user_id AND u.ready;
    END IF;
    IF rows IS NOT NULL THEN
        moved := guardwire.apply_positions(rows);
        PERFORM guardwire.apply_syncs(rows, arrived_at);
        PERFORM guardwire.apply_market(rows, arrived_at);
    END IF;
    RETURN CASE WHEN plain THEN moved END;
END
$$;

CREATE FUNCTION guardwire.ignore_equity_of_nobody(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'equity', e.id::text, 'user' FROM unnest(ids) AS k (id) JOIN guardwire.equity_rows() AS e ON e.id = k.id
    WHERE e.user_id IS NULL;
END
$$;

-- The rows that a list of tokens names, each once, in the order in which they were listed last.
CREATE FUNCTION guardwire.listed_rows(tokens text[]) RETURNS TABLE (source text, row_key text, inserted boolean, nth bigint)
LANGUAGE sql IMMUTABLE AS $$
    SELECT left(t.token, 1), substr(t.token, 3), substr(t.token, 2, 1) = 'i', max(t.nth)
    FROM unnest(tokens) WITH ORDINALITY AS t (token, nth)
    WHERE t.token <> '-'
    GROUP BY t.token
$$;

-- Whose account the rows of a list are about: null for a row of the log or of equity whose user is of no use (of_nobody).
-- Rates, instruments and rows that are gone have no row here.
CREATE FUNCTION guardwire.users_of(tokens text[]) RETURNS TABLE (source text, row_key text, user_id uuid, of_nobody boolean)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT DISTINCT n.source, n.row_key, found.user_id, found.user_id IS NULL
    FROM guardwire.listed_rows(tokens) AS n
    CROSS JOIN LATERAL (
        SELECT guardwire.read_user(l.user_id) AS user_id FROM public.reconciliation_logs AS l
        WHERE n.source = 'l' AND l.id = guardwire.read_user(n.row_key)
        UNION ALL
        SELECT guardwire.read_user(e.user_id) FROM public.equity_snapshots AS e
        WHERE n.source = 'e' AND e.id = guardwire.read_user(n.row_key)
        UNION ALL
        SELECT guardwire.read_user(n.row_key) WHERE n.source = 'g') AS found;
END
$$;

-- Applies what a list of tokens names, in their order, as one commit. A token is the source (l log, e equity, g limits,
-- i instrument, x rate), i or u for inserted or updated, and the row's key.
CREATE FUNCTION guardwire.apply_tokens(tokens text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off SET jit = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    arrived_at timestamptz := clock_timestamp();
    log_ids uuid[]; log_ordinals integer[]; log_inserted boolean[];
    equity_ids uuid[]; equity_ordinals integer[]; equity_inserted boolean[];
    limit_users uuid[]; symbols text[]; rates uuid[]; converted uuid[];
    users uuid[]; revisions bigint[]; readies boolean[];
    moved guardwire.positions[];
BEGIN
    SELECT array_agg(k.key::uuid) FILTER (WHERE k.source = 'l'), array_agg(k.ordinal) FILTER (WHERE k.source = 'l'),
           array_agg(k.inserted) FILTER (WHERE k.source = 'l'),
           array_agg(k.key::uuid) FILTER (WHERE k.source = 'e'), array_agg(k.ordinal) FILTER (WHERE k.source = 'e'),
           array_agg(k.inserted) FILTER (WHERE k.source = 'e'),
           array_agg(k.key::uuid) FILTER (WHERE k.source = 'g'), array_agg(k.key) FILTER (WHERE k.source = 'i'),
           array_agg(k.key::uuid ORDER BY k.ordinal) FILTER (WHERE k.source = 'x')
    INTO log_ids, log_ordinals, log_inserted, equity_ids, equity_ordinals, equity_inserted, limit_users, symbols, rates
    FROM (SELECT left(t.token, 1) AS source, substr(t.token, 3) AS key, max(t.nth)::integer AS ordinal,
                 bool_or(substr(t.token, 2, 1) = 'i') AS inserted
          FROM unnest(tokens) WITH ORDINALITY AS t (token, nth)
          GROUP BY 1, 2) AS k;

    PERFORM guardwire.lock_reference(symbols IS NOT NULL OR rates IS NOT NULL);
    IF rates IS NOT NULL THEN
        converted := guardwire.apply_fx(rates, arrived_at);
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision), array_agg(a.ready) INTO users, revisions, readies
    FROM guardwire.lock_accounts(
        limit_users || converted || guardwire.holders_of(symbols)
        || (SELECT array_agg(guardwire.read_user(l.user_id)) FROM unnest(log_ids) AS k (id) JOIN public.reconciliation_logs AS l ON l.id = k.id)
        || (SELECT array_agg(guardwire.read_user(e.user_id)) FROM unnest(equity_ids) AS k (id) JOIN public.equity_snapshots AS e ON e.id = k.id)
    ) AS a;

    IF symbols IS NOT NULL THEN
        PERFORM guardwire.apply_instruments(symbols);
    END IF;
    IF log_ids IS NOT NULL THEN
        moved := guardwire.apply_log(
            (SELECT array_agg(guardwire.arrived(l, to_timestamp(u.revision / 1000000.0), u.revision, k.ordinal, k.inserted)
                              ORDER BY l.user_id, l.ticket, k.ordinal)
             FROM unnest(log_ids, log_ordinals, log_inserted) AS k (id, ordinal, inserted)
             JOIN guardwire.log_rows() AS l ON l.id = k.id
             LEFT JOIN unnest(users, revisions) AS u (user_id, revision) ON u.user_id = l.user_id),
            users, readies, arrived_at);
    END IF;
    IF limit_users IS NOT NULL THEN
        PERFORM guardwire.apply_limits(limit_users, arrived_at);
    END IF;
    IF equity_ids IS NOT NULL THEN
        PERFORM guardwire.ignore_equity_of_nobody(equity_ids);
        PERFORM guardwire.record_equity_arrivals(equity_ids, equity_ordinals, equity_inserted, users, revisions);
        PERFORM guardwire.apply_equity(equity_ids, equity_ordinals, equity_inserted);
    END IF;
    IF moved IS NULL OR limit_users IS NOT NULL OR symbols IS NOT NULL OR rates IS NOT NULL OR equity_ids IS NOT NULL THEN
        PERFORM guardwire.notify_nodes(users, revisions);
    ELSE
        PERFORM guardwire.tell_nodes(moved);
    END IF;
END
$$;
