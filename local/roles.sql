-- The login roles of the system, one per process, for an administrator (a superuser) to run in ds and in salesdb:
--
--   BULKSMS_WEBAPI_PASSWORD=... psql -d ds -f local/roles.sql
--
-- Each password is read from the environment (also as a SCRAM verifier); a role without one cannot log in.
-- bulksms_migrator owns the tables and runs the migrations, which grant each other role what its process needs
-- (workspace/grants.py, bulksms/grants.py). Harmless to repeat.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

SELECT format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name)
FROM unnest(ARRAY['bulksms_migrator', 'bulksms_webapi', 'bulksms_salesapi', 'bulksms_rpc', 'bulksms_general_worker',
                  'bulksms_sales_worker']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

\getenv migrator BULKSMS_MIGRATOR_PASSWORD
\if :{?migrator}
ALTER ROLE bulksms_migrator LOGIN PASSWORD :'migrator';
\endif
\getenv webapi BULKSMS_WEBAPI_PASSWORD
\if :{?webapi}
ALTER ROLE bulksms_webapi LOGIN PASSWORD :'webapi';
\endif
\getenv salesapi BULKSMS_SALESAPI_PASSWORD
\if :{?salesapi}
ALTER ROLE bulksms_salesapi LOGIN PASSWORD :'salesapi';
\endif
\getenv rpc BULKSMS_RPC_PASSWORD
\if :{?rpc}
ALTER ROLE bulksms_rpc LOGIN PASSWORD :'rpc';
\endif
\getenv general_worker BULKSMS_GENERAL_WORKER_PASSWORD
\if :{?general_worker}
ALTER ROLE bulksms_general_worker LOGIN PASSWORD :'general_worker';
\endif
\getenv sales_worker BULKSMS_SALES_WORKER_PASSWORD
\if :{?sales_worker}
ALTER ROLE bulksms_sales_worker LOGIN PASSWORD :'sales_worker';
\endif

-- The clients give up after 60 s; this ends the statements of clients that have died. An upload is one COPY, which
-- takes as long as its client sends.
ALTER ROLE bulksms_webapi SET statement_timeout = '65s';
ALTER ROLE bulksms_rpc SET statement_timeout = '10min';
ALTER ROLE bulksms_general_worker SET statement_timeout = '65s';
ALTER ROLE bulksms_sales_worker SET statement_timeout = '65s';
ALTER ROLE bulksms_salesapi SET statement_timeout = '10min';

-- The migrator owns the database, its schema, and what an earlier version made as another user.
SELECT format('ALTER DATABASE %I OWNER TO bulksms_migrator', current_database()) \gexec
ALTER SCHEMA public OWNER TO bulksms_migrator;
SELECT format('ALTER %s %s OWNER TO bulksms_migrator',
              CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND relowner <> 'bulksms_migrator'::regrole
\gexec
SELECT format('ALTER TYPE %s OWNER TO bulksms_migrator', oid::regtype)
FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd') AND typowner <> 'bulksms_migrator'::regrole
\gexec
SELECT format('ALTER ROUTINE %s OWNER TO bulksms_migrator', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'bulksms_migrator'::regrole
\gexec
