-- The requirements on the database around schema guardwire.

-- Fails where row level security applies to the caller, who would take a table that is emptied for one without rows. Functions that
-- read the platform's tables run as their owner, whom the check of a node's login does not cover.
CREATE OR REPLACE FUNCTION guardwire.refuse_hidden_rows() RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    hidden text := (SELECT string_agg(t.name, ', ')
                    FROM unnest(ARRAY['public.reconciliation_logs', 'public.equity_snapshots', 'public.guard_limits',
                                      'public.instruments', 'public.fx_rates']) AS t (name)
                    WHERE to_regclass(t.name) IS NOT NULL AND row_security_active(t.name));
BEGIN
    IF hidden IS NOT NULL THEN
        RAISE EXCEPTION 'row level security hides rows of % from %: nothing is read', hidden, current_user
            USING ERRCODE = 'insufficient_privilege', HINT = format('ALTER ROLE %I BYPASSRLS', current_user);
    END IF;
END
$$;

-- A sentence for each circumstance in which account state would silently be wrong, as the caller's rights are.
CREATE OR REPLACE FUNCTION guardwire.check_surroundings() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    -- A SELECT that row level security empties looks like a table without rows.
    SELECT format('row level security hides rows of %s from %s; let this login bypass it (ALTER ROLE … BYPASSRLS), or give it a '
                  'policy that shows every row (CREATE POLICY … FOR SELECT TO … USING (true))', t.name, current_user)
    FROM (SELECT guardwire.table_of(o.source) AS name FROM unnest('{l,e,g,i,x}'::"char"[]) AS o (source)) AS t
    WHERE to_regclass(t.name) IS NOT NULL AND row_security_active(t.name)
    UNION ALL
    -- Copies of rows lack the column, and rows are applied as if it were null.
    SELECT format('%s has no column %s, which Guardwire reads; name it so again, or add it, and run `guardwire rebuild`',
                  guardwire.table_of(o.source), c.name)
    FROM unnest('{l,e,g,i,x}'::"char"[]) AS o (source) CROSS JOIN unnest(guardwire.read_columns(o.source)) AS c (name)
    WHERE to_regclass(guardwire.table_of(o.source)) IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_attribute AS a
                      WHERE a.attrelid = to_regclass(guardwire.table_of(o.source)) AND a.attname = c.name AND NOT a.attisdropped)
    UNION ALL
    -- row_to_json calls the casts to json that somebody made. guardwire_inbox may insert into the inbox alone; without it the
    -- copy runs as the login that migrated, and so would the cast of a login with fewer rights.
    (WITH RECURSIVE used (relation, name, type) AS (
        SELECT c.oid, a.attname, a.atttypid FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
          AND c.relname IN ('reconciliation_logs', 'equity_snapshots', 'guard_limits', 'instruments', 'fx_rates')
        UNION
        -- The type beneath a domain, the elements of an array, the columns of a composite type.
        SELECT u.relation, u.name, i.type FROM used AS u JOIN pg_type AS t ON t.oid = u.type
        CROSS JOIN LATERAL (SELECT unnest(ARRAY[t.typbasetype, t.typelem])
                            UNION ALL SELECT a.atttypid FROM pg_attribute AS a
                            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS i (type)
        WHERE i.type <> 0)
    SELECT format('column %s of %s has a type with a cast to json by %s(), a function of %s that would run with the rights of %s; '
                  'run `guardwire migrate --roles`, or DROP CAST (%s AS json)', u.name, u.relation::regclass, f.proname,
                  f.proowner::regrole, p.proowner::regrole, format_type(k.castsource, NULL))
    FROM pg_proc AS p CROSS JOIN used AS u
    JOIN pg_cast AS k ON k.casttarget = 'json'::regtype AND k.castsource = u.type
    JOIN pg_proc AS f ON f.oid = k.castfunc
    JOIN pg_roles AS o ON o.oid = f.proowner
    WHERE p.oid = to_regproc('guardwire.copy_row') AND p.proowner <> f.proowner AND NOT o.rolsuper
      AND p.proowner IS DISTINCT FROM to_regrole('guardwire_inbox'))
    UNION ALL
    -- On a subscriber the applier of the publisher and the one of the subscriber would both write.
    SELECT format('publication %s contains schema guardwire; leave the schema out, the subscriber makes its own', p.pubname)
    FROM (SELECT DISTINCT o.pubname FROM pg_publication_tables AS o WHERE o.schemaname = 'guardwire') AS p
    UNION ALL
    SELECT format('a subscription writes to %s; leave schema guardwire out of the publication', s.srrelid::regclass)
    FROM pg_subscription_rel AS s JOIN pg_class AS c ON c.oid = s.srrelid
    WHERE c.relnamespace = 'guardwire'::regnamespace
$$;
