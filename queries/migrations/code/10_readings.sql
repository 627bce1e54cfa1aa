-- How values of the platform's rows are read. Each row arrives as jsonb, so these functions take what jsonb can hold: the
-- platform may change the type of a column without asking. A value that cannot be used becomes null. Names were resolved
-- when a function was made (SQL-standard bodies), so a caller's search_path has no influence.

-- The account of rows that have none: rates, instruments, and rows without a usable user. No platform may use this id.
CREATE OR REPLACE FUNCTION guardwire.no_account() RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid;

-- A UUID as PostgreSQL's own cast takes it: with or without dashes and braces, in any case. The first branch is what a column of
-- type uuid gives; it costs a third of the pattern, in the platform's statement too.
CREATE OR REPLACE FUNCTION guardwire.read_user(value text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value COLLATE "C" LIKE '________-____-____-____-____________' AND translate(value, '0123456789abcdef', '') = '----'
                THEN nullif(value::uuid, guardwire.no_account())
            WHEN value COLLATE "C" ~ '^([0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}|\{[0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}\})$'
                THEN nullif(value::uuid, guardwire.no_account()) END;

-- A ticket from 1 to 2^63 - 1. In collation C a pattern's blanks and digits are those of ASCII, as in the casts.
CREATE OR REPLACE FUNCTION guardwire.read_ticket(value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value)
    WHEN 'number' THEN CASE WHEN value::numeric BETWEEN 1 AND 9223372036854775807 AND value::numeric = trunc(value::numeric)
                                THEN value::bigint END
    WHEN 'string' THEN CASE WHEN (value #>> '{}') COLLATE "C" ~ '^\s*0*[0-9]{1,19}\s*$'
                                THEN CASE WHEN (value #>> '{}')::numeric BETWEEN 1 AND 9223372036854775807
                                              THEN (value #>> '{}')::bigint END END
END;

-- Whether a row names no ticket at all: null, 0 or an empty text. Any other value that is no ticket cannot be used.
CREATE OR REPLACE FUNCTION guardwire.has_no_ticket(value jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(value #>> '{}', '') COLLATE "C" ~ '^\s*0*(\.0*)?\s*$';

-- A number below 10^15 in size, with at most 15 decimals: more decimals would be too small for the floating point that
-- clients read. NaN and infinity are no JSON numbers.
CREATE OR REPLACE FUNCTION guardwire.read_number(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE jsonb_typeof(value)
    WHEN 'number' THEN CASE WHEN abs(value::numeric) < 1e15 THEN round(value::numeric, 15) END
    WHEN 'string' THEN CASE WHEN length(value #>> '{}') <= 600
                                 AND (value #>> '{}') COLLATE "C" ~ '^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*$'
                                THEN CASE WHEN abs((value #>> '{}')::numeric) < 1e15 THEN round((value #>> '{}')::numeric, 15) END END
END;

-- A price or level. MetaTrader writes 0 where there is none; prices below 0 are real.
CREATE OR REPLACE FUNCTION guardwire.read_price(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(guardwire.read_number(value), 0);

-- Whole seconds from 0 to `most`.
CREATE OR REPLACE FUNCTION guardwire.read_seconds(value jsonb, most integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN guardwire.read_number(value) BETWEEN 0 AND most THEN guardwire.read_number(value)::integer END;

-- Whether a date that begins a text, with a month from 01 to 12 and a day from 01 to 31, is one of the calendar.
CREATE OR REPLACE FUNCTION guardwire.is_date(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN substr(value, 9, 2) COLLATE "C" <= '28' THEN true
            WHEN substr(value, 6, 5) = '02-29'
                THEN (substr(value, 3, 2) = '00' AND substr(value, 1, 2)::integer % 4 = 0)
                     OR (substr(value, 3, 2) <> '00' AND substr(value, 3, 2)::integer % 4 = 0)
            WHEN substr(value, 6, 2) = '02' THEN false
            ELSE substr(value, 9, 2) <> '31' OR substr(value, 6, 2) IN ('01', '03', '05', '07', '08', '10', '12') END;

-- A time from 1970 to 9999. A time without a zone is UTC. The cast would raise an error for a text that is no time, as in a
-- column that became a text.
CREATE OR REPLACE FUNCTION guardwire.read_time(value text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN value COLLATE "C" ~ '^((1969|19[7-9]\d|[2-9]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])|10000-01-01)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-](0\d|1[0-5])(:[0-5]\d){0,2})?$'
    THEN CASE WHEN NOT guardwire.is_date(value) THEN NULL
              WHEN value LIKE '%T%+%' OR value LIKE '%Z' OR value LIKE '%T%-%'
                  THEN CASE WHEN value::timestamptz >= '1970-01-01 00:00:00+00'::timestamptz
                                 AND value::timestamptz < '10000-01-01 00:00:00+00'::timestamptz THEN value::timestamptz END
              WHEN value COLLATE "C" >= '1970' AND substr(value, 5, 1) = '-' THEN (value || 'Z')::timestamptz END END;

-- 0 not matched, 1 matched, 2 divergence; null when the column is null.
CREATE OR REPLACE FUNCTION guardwire.read_matched(value jsonb) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL OR jsonb_typeof(value) = 'null' THEN NULL
            WHEN value = '1' OR value = 'true' OR btrim(value #>> '{}') = '1' THEN 1::smallint
            WHEN value = '2' OR btrim(value #>> '{}') = '2' THEN 2::smallint
            ELSE 0::smallint END;

-- A short text in lower case without blanks around it, to be compared.
CREATE OR REPLACE FUNCTION guardwire.read_word(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(lower(btrim(left(value, 80), E' \t\r\n\f\x0B') COLLATE "C"), '');

-- A text without blanks around it, cut to so many characters.
CREATE OR REPLACE FUNCTION guardwire.read_text(value text, characters integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(left(btrim(value, E' \t\r\n\f\x0B'), characters), '');

-- The code of a currency, or the name of a symbol, in upper case. Only ASCII letters are folded: in every
-- locale of the database PostgreSQL, Python and JavaScript agree on those.
CREATE OR REPLACE FUNCTION guardwire.read_code(value text, characters integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN upper(guardwire.read_text(value, characters) COLLATE "C");

-- A symbol as it is compared: in upper case, ASCII letters alone.
CREATE OR REPLACE FUNCTION guardwire.fold(symbol text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN upper(symbol COLLATE "C");

-- The time at which a row of the platform counts: its own, but never later than its arrival, because whole platforms have clocks
-- that are hours ahead. Where the platform's clock is known to have gone back (guardwire.accounts.clock_stepped_at) a row counts at
-- its arrival, unless it is so much older that no clock explains it. A row without a time counts at its arrival.
CREATE OR REPLACE FUNCTION guardwire.effective_time(created_at timestamptz, arrived_at timestamptz, stepped_at timestamptz)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN arrived_at >= stepped_at AND arrived_at - created_at <= '26:00:00'::interval THEN arrived_at
            ELSE least(created_at, arrived_at) END;

-- Adds a row that was ignored as older to the run of such rows before it (`positions.older_rows`). A row that no clock explains
-- ends the run; of rows that disagree by more than 5 s the earlier ones are dropped.
CREATE OR REPLACE FUNCTION guardwire.note_older(run bigint[], created_at timestamptz, arrived_at timestamptz) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    -- Both are exact to the microsecond, as their difference is.
    late_us bigint := (extract(epoch FROM arrived_at - created_at) * 1000000)::bigint;
BEGIN
    IF arrived_at - created_at > '26:00:00'::interval THEN
        RETURN NULL;
    END IF;
    run := coalesce(run, '{}') || late_us;
    WHILE (SELECT max(u.late) - min(u.late) FROM unnest(run) AS u (late)) > 5000000 LOOP
        run := run[2:];
    END LOOP;
    RETURN run;
END
$$;

-- Whether a run of rows that were ignored as older shows that the platform's clock went back: three that agree. Rows of an import
-- do not agree.
CREATE OR REPLACE FUNCTION guardwire.has_stepped(run bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN cardinality(run) >= 3;

-- Whether a row that was ignored as older puts its account in doubt: a clock that went back would explain it, and the few seconds
-- by which rows overtake each other would not.
CREATE OR REPLACE FUNCTION guardwire.is_doubtful(created_at timestamptz, arrived_at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN arrived_at - created_at > '00:00:05'::interval AND arrived_at - created_at <= '26:00:00'::interval;

-- The date of a moment as microseconds since 1970.
CREATE OR REPLACE FUNCTION guardwire.unix_us(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (extract(epoch FROM at) * 1000000)::bigint;
