-- The rights of guardwire_inbox, which owns the functions that run in the platform's statements.
--
-- To give a function to a role, a login has to be able to become that role; to replace the function later, it has to have the
-- role's rights. Since PostgreSQL 16 a login that made a role may grant the role, and can do neither before it did.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 160000 THEN
        IF NOT (pg_has_role('guardwire_inbox', 'USAGE') AND pg_has_role('guardwire_inbox', 'SET')) THEN
            EXECUTE format('GRANT guardwire_inbox TO %I WITH INHERIT TRUE, SET TRUE', current_user);
        END IF;
    ELSIF NOT pg_has_role('guardwire_inbox', 'MEMBER') THEN
        EXECUTE format('GRANT guardwire_inbox TO %I', current_user);
    END IF;
END
$$;

GRANT USAGE, CREATE ON SCHEMA guardwire TO guardwire_inbox;
ALTER FUNCTION guardwire.copy_row() OWNER TO guardwire_inbox;
ALTER FUNCTION guardwire.note_truncate() OWNER TO guardwire_inbox;
REVOKE CREATE ON SCHEMA guardwire FROM guardwire_inbox;
REVOKE ALL ON FUNCTION guardwire.copy_row(), guardwire.note_truncate() FROM PUBLIC;
GRANT INSERT ON guardwire.inbox TO guardwire_inbox;
GRANT EXECUTE ON FUNCTION
    guardwire.copy_of("char", anyelement), guardwire.copy_columns("char", anyelement), guardwire.copy_value(anyelement),
    guardwire.is_short(integer), guardwire.is_plain_copy(json), guardwire.read_columns("char"), guardwire.read_user(text),
    guardwire.no_account(), guardwire.wake_applier(), guardwire.wakes_applier()
TO guardwire_inbox;
