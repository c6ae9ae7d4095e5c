#!/bin/sh
# Runs once, when the database volume is empty. Tables and their grants are the migrations' work; roles are not.
#
#   footfall            owns the database, runs the migrations
#   footfall_projector  writes the read model     (through the group footfall_writer)
#   footfall_query      reads it, and cannot write (through the group footfall_reader)
set -eu

: "${FOOTFALL_OWNER_PASSWORD:?is not set}"
: "${FOOTFALL_PROJECTOR_PASSWORD:?is not set}"
: "${FOOTFALL_QUERY_PASSWORD:?is not set}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv database POSTGRES_DB
\getenv owner_password FOOTFALL_OWNER_PASSWORD
\getenv projector_password FOOTFALL_PROJECTOR_PASSWORD
\getenv query_password FOOTFALL_QUERY_PASSWORD

BEGIN;

CREATE ROLE footfall_writer NOLOGIN;
CREATE ROLE footfall_reader NOLOGIN;

CREATE ROLE footfall           LOGIN CREATEROLE PASSWORD :'owner_password';
CREATE ROLE footfall_projector LOGIN            PASSWORD :'projector_password' IN ROLE footfall_writer;
CREATE ROLE footfall_query     LOGIN            PASSWORD :'query_password'     IN ROLE footfall_reader;

-- The owner may hand the groups to further logins, but does not act through them.
GRANT footfall_writer, footfall_reader TO footfall WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;

ALTER ROLE footfall_query SET default_transaction_read_only = on;
-- Disk space that one session's queries may use at once; the role cannot change it for itself.
ALTER ROLE footfall_query SET temp_file_limit = '1GB';
-- For sessions whose process is gone without a word: longer than any query (EXPORT_TIMEOUT_MS) or transaction of ours.
ALTER ROLE footfall_query SET statement_timeout = '30min';
ALTER ROLE footfall_query SET idle_in_transaction_session_timeout = '60s';

ALTER DATABASE :"database" OWNER TO footfall;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO footfall_writer, footfall_reader;
-- Large batches go through a temporary staging table.
GRANT TEMPORARY ON DATABASE :"database" TO footfall_writer;

-- Who holds what an operator waits for; and the one limit of a reporter that is not for the reporter to change.
GRANT pg_read_all_stats TO footfall;
GRANT SET ON PARAMETER temp_file_limit TO footfall;
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;

-- PostgreSQL lets every role make large objects and write into its log, those that only read too; databases made later
-- come from template1.
DO $$
DECLARE found regprocedure;
BEGIN
    FOR found IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'pg_logical_emit_message') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', found);
    END LOOP;
END $$;

COMMIT;

\connect template1
DO $$
DECLARE found regprocedure;
BEGIN
    FOR found IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'pg_logical_emit_message') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', found);
    END LOOP;
END $$;
SQL
