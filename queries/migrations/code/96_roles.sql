-- Three roles with no more rights than they need. Logins are made members of the last two (GRANT guardwire_server TO …).
--
-- guardwire_inbox owns the functions that run in the platform's statements: a function of somebody else that such a statement
-- may call, a cast of a column's type to json, can insert into the inbox and nothing else. guardwire_platform writes to the
-- platform's tables and knows nothing of schema guardwire. guardwire_server reads, and changes account state only through
-- functions: of the platform's tables it writes guard_limits alone.
--
-- 97_inbox.sql, 98_platform.sql and 99_server.sql give each role its rights.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['guardwire_inbox', 'guardwire_platform', 'guardwire_server'] LOOP
        -- CREATE ROLE needs the right to make roles even for a role that is there already.
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
