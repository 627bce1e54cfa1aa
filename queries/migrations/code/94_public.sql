-- Nobody has a right in schema guardwire by default. PostgreSQL lets every login call a new function.
REVOKE ALL ON SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA guardwire FROM PUBLIC;
