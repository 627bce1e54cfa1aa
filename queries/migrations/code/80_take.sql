-- Which rows of the inbox are the next batch.

-- Accounts of rows that wait behind the oldest ones: those of the newest rows, and those of rows at a place taken by chance.
-- Without these, one account's million rows would hold up another account's one row in their midst.
CREATE OR REPLACE FUNCTION guardwire.find_accounts(known uuid[], after_nth bigint, most integer) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    place bigint := after_nth + (random() * (guardwire.last_nth() - after_nth))::bigint;
BEGIN
    RETURN ARRAY(
        SELECT o.account
        FROM ((SELECT w.account
               FROM (SELECT i.account, i.nth FROM guardwire.inbox AS i WHERE i.nth > after_nth ORDER BY i.nth DESC LIMIT most) AS w
               WHERE w.account <> ALL (known)
               GROUP BY w.account ORDER BY max(w.nth) DESC LIMIT 50)
              UNION
              (SELECT DISTINCT i.account FROM guardwire.inbox AS i
               WHERE i.nth > place AND i.nth <= place + 4 * most AND i.account <> ALL (known) LIMIT 20)) AS o
        WHERE NOT EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.user_id = o.account AND NOT a.ready));
END
$$;

-- The first rows of accounts, about `most` together: of the account with the oldest row, then of `early` accounts, then of
-- the other accounts, those with the fewest rows first. Accounts share equally; what an account does not need of its share goes to
-- those that need more. A share ends where no transaction is cut in two, as far as the account's next 5,000 rows reach: rows of
-- several transactions may take turns.
CREATE OR REPLACE FUNCTION guardwire.share_rows(early uuid[], others uuid[], scan_from bigint, most integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    -- An account costs more than some rows of it.
    share integer := greatest(least(10, most), most / cardinality(early || others));
    chosen uuid[];
    unused integer;
    needy integer;
BEGIN
    SELECT array_agg(p.account ORDER BY p.upto), most - sum(p.waiting), count(*) FILTER (WHERE p.waiting = share)
    INTO chosen, unused, needy
    FROM (SELECT o.account, o.waiting, sum(o.waiting) OVER (
                     ORDER BY o.nth > o.oldest, o.account <> ALL (early), o.waiting, o.nth
                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS upto
          FROM (SELECT u.account, w.waiting, w.nth, min(w.nth) OVER () AS oldest
                FROM unnest(early || others) AS u (account)
                CROSS JOIN LATERAL (SELECT count(*)::integer AS waiting, min(r.nth) AS nth
                                    FROM (SELECT i.nth FROM guardwire.inbox AS i WHERE i.account = u.account AND i.nth > scan_from
                                          ORDER BY i.nth LIMIT share) AS r) AS w
                WHERE w.waiting > 0) AS o) AS p
    WHERE p.upto - p.waiting < most;
    IF needy > 0 AND unused > 0 THEN
        share := share + unused / needy;
    END IF;
    RETURN ARRAY(
        WITH seen AS (
            -- All rows of an account that has no more than its share, and 5,000 rows beyond the share of another one.
            SELECT c.account, c.turn, o.nth, o.place, max(o.nth) OVER (PARTITION BY c.account, o.xid) AS last_of_transaction
            FROM unnest(chosen) WITH ORDINALITY AS c (account, turn)
            CROSS JOIN LATERAL (SELECT i.nth, i.xid, row_number() OVER (ORDER BY i.nth) AS place FROM guardwire.inbox AS i
                                WHERE i.account = c.account AND i.nth > scan_from ORDER BY i.nth LIMIT share + 5000) AS o
        ), ended AS (
            SELECT s.*, max(s.last_of_transaction) OVER (PARTITION BY s.account ORDER BY s.nth) = s.nth AS ends_all
            FROM seen AS s
        ), whole AS MATERIALIZED (
            SELECT o.account, o.turn, o.nth
            FROM (SELECT e.*, min(e.nth) FILTER (WHERE e.place >= share AND e.ends_all) OVER (PARTITION BY e.account) AS upto
                  FROM ended AS e) AS o
            WHERE o.nth <= coalesce(o.upto, o.nth)
        ), placed AS (
            -- The transaction of the oldest row does not count: however long it is, accounts with a row or two come along.
            SELECT w.account, sum(count(*)) FILTER (WHERE w.turn > 1) OVER (
                                  ORDER BY w.turn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM whole AS w GROUP BY w.account, w.turn
        )
        SELECT w.nth FROM whole AS w JOIN placed AS p ON p.account = w.account WHERE coalesce(p.before, 0) < most);
END
$$;

-- Deletes and returns the rows of one batch: all rows that wait if they are fewer than `most`.
CREATE OR REPLACE FUNCTION guardwire.take_rows(most integer) RETURNS guardwire.inbox[]
LANGUAGE plpgsql AS $$
DECLARE
    scan_from bigint;
    wanted bigint[];
    accounts uuid[];
    taken guardwire.inbox[];
BEGIN
    -- Before guardwire.list_accounts has run, an account that is missing from guardwire.accounts may have history that was not read.
    IF NOT EXISTS (SELECT FROM guardwire.backfill AS b WHERE b.listed OR b.done) THEN
        RETURN NULL;
    END IF;
    LOOP
        scan_from := guardwire.scan_from();
        SELECT array_agg(w.nth), array_agg(DISTINCT w.account) INTO wanted, accounts
        FROM (SELECT i.nth, i.account FROM guardwire.inbox AS i
              WHERE i.nth > scan_from
                AND NOT EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.user_id = i.account AND NOT a.ready)
              ORDER BY i.nth LIMIT most) AS w;
        -- A plan for any batch expects ten accounts and joins by nested loops: a thousand accounts would take seconds. A plan for
        -- this batch costs 2 ms.
        IF cardinality(accounts) > 60 THEN
            PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
        END IF;
        IF cardinality(wanted) = most THEN
            wanted := guardwire.share_rows(guardwire.find_accounts(accounts, wanted[most], most), accounts, scan_from, most);
        END IF;
        -- A transaction that ended since has rows before the place where these scans began.
        EXIT WHEN guardwire.scan_from() >= scan_from;
    END LOOP;
    WITH gone AS (DELETE FROM guardwire.inbox AS i WHERE i.nth = ANY (wanted) RETURNING i)
    SELECT array_agg(g.i ORDER BY (g.i).account, (g.i).nth) INTO taken FROM gone AS g;
    RETURN taken;
END
$$;
