-- How values that a platform wrote are read. Each function has one version per column type that is accepted, and
-- PostgreSQL picks by the types that the columns have at that moment: the platform may change a column from integer to
-- bigint, or from timestamp to timestamptz, without asking us. None of them can raise. They are inlined into the plan, and their names
-- were resolved when they were made, so that no caller's search_path can slip in an operator of its own.

-- A canonical UUID, or null: with or without dashes and braces, in any case, as PostgreSQL's own cast takes them.
CREATE FUNCTION guardwire.read_user(value uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value;

CREATE FUNCTION guardwire.read_user(value text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value ~ '^([0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}|\{[0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}\})$'
                THEN value::uuid END;

-- A ticket from 1 to 2^63 - 1, or null.
CREATE FUNCTION guardwire.read_ticket(value bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value > 0 THEN value END;

CREATE FUNCTION guardwire.read_ticket(value integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value > 0 THEN value::bigint END;

CREATE FUNCTION guardwire.read_ticket(value smallint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value > 0 THEN value::bigint END;

CREATE FUNCTION guardwire.read_ticket(value numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value >= 1 AND value <= 9223372036854775807 AND value = trunc(value) THEN value::bigint END;

CREATE FUNCTION guardwire.read_ticket(value text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value ~ '^\s*[0-9]{1,30}\s*$' THEN guardwire.read_ticket(value::numeric) END;

-- A finite number below 10^15 in size with at most 15 decimals, or null. (NaN is greater than every number. A number with
-- hundreds of decimals would be too small for the floating point that reads it.)
CREATE FUNCTION guardwire.read_number(value numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(value) < 1e15 THEN round(value, 15) END;

CREATE FUNCTION guardwire.read_number(value double precision) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(value) < 1e15 THEN round(value::numeric, 15) END;

CREATE FUNCTION guardwire.read_number(value real) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(value) < 1e15 THEN round(value::numeric, 15) END;

CREATE FUNCTION guardwire.read_number(value bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN guardwire.read_number(value::numeric);

-- A moment from 1970 to 9999, or null. A timestamp without zone is UTC.
CREATE FUNCTION guardwire.read_time(value timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value >= '1970-01-01 00:00:00+00'::timestamptz AND value < '10000-01-01 00:00:00+00'::timestamptz
                THEN value END;

CREATE FUNCTION guardwire.read_time(value timestamp) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN guardwire.read_time(value AT TIME ZONE 'UTC');

-- 0, 1 or 2, or null when the column is null.
CREATE FUNCTION guardwire.read_matched(value bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL THEN NULL WHEN value IN (1, 2) THEN value::smallint ELSE 0::smallint END;

CREATE FUNCTION guardwire.read_matched(value integer) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL THEN NULL WHEN value IN (1, 2) THEN value::smallint ELSE 0::smallint END;

CREATE FUNCTION guardwire.read_matched(value smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL THEN NULL WHEN value IN (1, 2) THEN value ELSE 0::smallint END;

CREATE FUNCTION guardwire.read_matched(value boolean) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value::integer::smallint;

CREATE FUNCTION guardwire.read_matched(value text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value IS NULL THEN NULL WHEN btrim(value) = '1' THEN 1::smallint
                WHEN btrim(value) = '2' THEN 2::smallint ELSE 0::smallint END;

-- A short text in lower case without blanks around it, to compare with; null when empty.
CREATE FUNCTION guardwire.read_word(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(lower(btrim(left(value, 80), E' \t\r\n\f\x0B')), '');

-- A text without blanks around it, cut to so many characters; null when empty.
CREATE FUNCTION guardwire.read_text(value text, characters integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(left(btrim(value, E' \t\r\n\f\x0B'), characters), '');
