-- The logins of the composition, made once by the image of PostgreSQL, as its superuser, in a new database.
--
-- `migrator` owns the database and runs `guardwire migrate`. `node` is the login of `guardwire serve`, and `platform`
-- that of the trading platform: neither owns anything. Both get their rights from the roles of `guardwire migrate --roles`.
-- Only a superuser may make these roles. `migrator` is a member of guardwire_inbox, because it gives that role the two
-- trigger functions.
\getenv migrator_password MIGRATOR_PASSWORD
\getenv node_password NODE_PASSWORD
\getenv platform_password PLATFORM_PASSWORD

CREATE ROLE guardwire_server NOLOGIN;
CREATE ROLE guardwire_platform NOLOGIN;
CREATE ROLE guardwire_inbox NOLOGIN;
CREATE ROLE migrator LOGIN PASSWORD :'migrator_password' IN ROLE guardwire_inbox;
CREATE ROLE node LOGIN PASSWORD :'node_password' IN ROLE guardwire_server;
CREATE ROLE platform LOGIN PASSWORD :'platform_password' IN ROLE guardwire_platform;

ALTER DATABASE :"DBNAME" OWNER TO migrator;
-- By default every login may connect, and make temporary tables and types.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO node, platform;
