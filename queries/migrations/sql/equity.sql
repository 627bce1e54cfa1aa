-- The equity rules: the latest row is what is shown, and the peak is the highest on record less the cash flows since.

-- An account's equity rows on record in the order in which they count, by time and then by arrival, except those that
-- arrived but are still to be applied. A row without a usable time counts at its arrival.
CREATE FUNCTION guardwire.equity_of(account uuid, pending uuid[]) RETURNS TABLE (
    id uuid, equity numeric, balance numeric, currency text, cash_flow numeric, at timestamptz, nth bigint
) LANGUAGE sql STABLE AS $$
    SELECT e.id, e.equity, e.balance, e.currency, e.cash_flow, moment.at,
           row_number() OVER (ORDER BY moment.at, coalesce(a.revision, 0), coalesce(a.ordinal, 0), e.id)
    FROM guardwire.equity_rows() AS e
    LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal FROM guardwire.arrivals AS s
               WHERE s.user_id = account AND s.source = 'e'
               ORDER BY s.log_id, s.revision DESC) AS a ON a.log_id = e.id
    CROSS JOIN LATERAL (SELECT coalesce(e.at, to_timestamp(coalesce(a.revision, 0) / 1000000.0)) AS at) AS moment
    WHERE e.user_id = account AND e.equity IS NOT NULL AND NOT e.id = ANY (pending)
$$;

-- Cash flows of an account later than a moment; an account has few of them.
CREATE FUNCTION guardwire.flows_after(account uuid, moment timestamptz, pending uuid[]) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(guardwire.read_number(e.cash_flow)), 0)
        FROM public.equity_snapshots AS e
        WHERE e.user_id = account AND e.cash_flow <> 0 AND guardwire.read_number(e.equity) IS NOT NULL
          AND NOT e.id = ANY (pending)
          AND coalesce(guardwire.read_time(e.created_at),
                       (SELECT to_timestamp(max(s.revision) / 1000000.0) FROM guardwire.arrivals AS s
                        WHERE s.user_id = account AND s.source = 'e' AND s.log_id = e.id)) > moment);
END
$$;

CREATE TYPE guardwire.equity_state AS (
    equity numeric, balance numeric, currency text, at timestamptz, flow numeric, peak numeric
);
COMMENT ON TYPE guardwire.equity_state IS 'What an account''s equity on record comes to: its latest row, all cash flows, and the highest equity less the flows up to it';

CREATE FUNCTION guardwire.equity_state(account uuid, pending uuid[]) RETURNS guardwire.equity_state LANGUAGE plpgsql STABLE AS $$
DECLARE
    since timestamptz := (guardwire.limits_of(account)).peak_since;
    found_state guardwire.equity_state;
BEGIN
    SELECT (array_agg(e.equity ORDER BY e.nth DESC))[1], (array_agg(e.balance ORDER BY e.nth DESC))[1],
           (array_agg(e.currency ORDER BY e.nth DESC))[1], max(e.at), sum(e.cash_flow),
           max(e.equity - e.upto) FILTER (WHERE e.equity >= 0 AND (since IS NULL OR e.at >= since))
    INTO found_state
    FROM (SELECT o.*, sum(o.cash_flow) OVER (ORDER BY o.nth) AS upto FROM guardwire.equity_of(account, pending) AS o) AS e;
    RETURN found_state;
END
$$;

-- Equity rows that wait as notes: they have not arrived yet.
CREATE FUNCTION guardwire.noted_equity() RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(SELECT guardwire.read_user(n.row_key) FROM guardwire.capture_notes AS n WHERE n.source = 'e');
END
$$;

-- Reads an account's equity anew from all that is on record, as after peak_since moved, a late cash flow, or rows that were
-- altered in place.
CREATE FUNCTION guardwire.read_equity(account uuid, pending uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_state guardwire.equity_state := guardwire.equity_state(account, pending);
BEGIN
    UPDATE guardwire.accounts AS a
    SET equity = found_state.equity, balance = found_state.balance, currency = found_state.currency, equity_at = found_state.at,
        equity_flow = coalesce(found_state.flow, 0), peak_adjusted = found_state.peak,
        peak_since = (guardwire.limits_of(account)).peak_since
    WHERE a.user_id = account;
END
$$;

-- A symbol that is in no list of instruments counts in the account's currency, whatever that is now.
CREATE FUNCTION guardwire.follow_currency(account uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.positions AS p SET quote_currency = coalesce(a.currency, 'USD')
    FROM guardwire.accounts AS a
    WHERE a.user_id = account AND p.user_id = account AND p.is_open AND p.contract_size_assumed
      AND p.quote_currency <> coalesce(a.currency, 'USD');
END
$$;

-- Writes down in which order equity rows arrived; for a batch of notes too, each with the revision that it now gets.
CREATE FUNCTION guardwire.record_equity_arrivals(
    ids uuid[], ordinals integer[], inserted boolean[], users uuid[], revisions bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, source, inserted)
    SELECT u.user_id, u.revision, k.ordinal, k.id, 'e', k.inserted
    FROM unnest(ids, ordinals, inserted) AS k (id, ordinal, inserted)
    JOIN guardwire.equity_rows() AS e ON e.id = k.id
    JOIN unnest(users, revisions) AS u (user_id, revision) ON u.user_id = e.user_id;
END
$$;

-- Applies equity rows in the order in which they arrived; the cost of an append does not grow with history.
CREATE FUNCTION guardwire.apply_equity(ids uuid[], ordinals integer[], inserted boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    r record;
    a guardwire.accounts;
    since timestamptz;
    moment timestamptz;
    adjusted numeric;
    -- Not those that are applied here: a note is removed after its row has been applied.
    noted uuid[] := ARRAY(SELECT n.id FROM unnest(guardwire.noted_equity()) AS n (id) WHERE n.id <> ALL (ids));
    in_turn uuid[] := ARRAY(SELECT k.id FROM unnest(ids, ordinals) AS k (id, ordinal) ORDER BY k.ordinal);
BEGIN
    FOR r IN
        SELECT e.*, k.ordinal, k.inserted, k.turn
        FROM (SELECT u.*, row_number() OVER (ORDER BY u.ordinal)::integer AS turn
              FROM unnest(ids, ordinals, inserted) AS u (id, ordinal, inserted)) AS k
        JOIN guardwire.equity_rows() AS e ON e.id = k.id
        ORDER BY e.user_id, k.ordinal
    LOOP
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        CONTINUE WHEN NOT FOUND OR NOT a.ready;
        IF r.equity IS NULL THEN
            UPDATE guardwire.accounts AS o SET ignored_rows = o.ignored_rows + 1 WHERE o.user_id = r.user_id;
            INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
            VALUES ('equity', r.id::text, r.user_id, 'equity');
            CONTINUE WHEN r.inserted;
        END IF;
        since := (guardwire.limits_of(r.user_id)).peak_since;
        moment := coalesce(r.at, to_timestamp(a.revision / 1000000.0));
        -- What reads the history must not see rows of this commit before their turn, nor those that wait as notes.
        IF NOT r.inserted THEN
            PERFORM guardwire.read_equity(r.user_id, in_turn[r.turn + 1:] || noted);
        ELSIF a.equity_at IS NULL OR moment >= a.equity_at THEN
            adjusted := CASE WHEN r.equity >= 0 AND (since IS NULL OR moment >= since)
                             THEN r.equity - a.equity_flow - r.cash_flow END;
            UPDATE guardwire.accounts AS o
            SET equity = r.equity, balance = r.balance, currency = r.currency, equity_at = moment,
                equity_flow = o.equity_flow + r.cash_flow, peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        ELSIF r.cash_flow <> 0 THEN
            PERFORM guardwire.read_equity(r.user_id, in_turn[r.turn + 1:] || noted);
        ELSIF r.equity >= 0 AND (since IS NULL OR moment >= since) THEN
            adjusted := r.equity - a.equity_flow + guardwire.flows_after(r.user_id, moment, in_turn[r.turn + 1:] || noted);
            UPDATE guardwire.accounts AS o SET peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        END IF;
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        PERFORM guardwire.follow_currency(r.user_id);
        PERFORM guardwire.judge_drawdown(
            r.user_id, r.id::text, least(a.equity_at, to_timestamp(a.revision / 1000000.0)), a.revision, r.ordinal);
    END LOOP;
END
$$;
