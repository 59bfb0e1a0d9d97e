-- Made by `make dumps` with pg_dump. Load it with psql: into an empty database, or one already migrated.

SELECT to_regclass('public.alembic_version') IS NULL AS empty \gset
\if :empty

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE FUNCTION public.audit_log_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            RAISE EXCEPTION 'audit_log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
        END
        $$;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.api_key (
    id uuid DEFAULT uuidv7() NOT NULL,
    workspace_id uuid,
    secret_hash bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    rotated_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_key_secret_hash CHECK ((octet_length(secret_hash) = 32))
);

CREATE TABLE public.audit_log (
    id uuid DEFAULT uuidv7() NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    role text NOT NULL,
    name text NOT NULL,
    key_id uuid,
    workspace_id uuid,
    address text NOT NULL,
    request_id text NOT NULL,
    action text NOT NULL,
    object_id uuid,
    outcome text NOT NULL,
    details jsonb NOT NULL,
    CONSTRAINT audit_log_role CHECK ((role = ANY (ARRAY['operator'::text, 'workspace'::text, 'console'::text, 'worker'::text]))),
    CONSTRAINT audit_log_size CHECK (((((((octet_length(name) + octet_length(address)) + octet_length(request_id)) + octet_length(action)) + octet_length(outcome)) + octet_length((details)::text)) <= 4000))
);

CREATE TABLE public.ledger (
    reference text NOT NULL,
    workspace_id uuid NOT NULL,
    campaign_id uuid,
    kind text NOT NULL,
    amount numeric(15,1) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ledger_amount CHECK (((amount > (0)::numeric) AND (amount < 'Infinity'::numeric))),
    CONSTRAINT ledger_kind CHECK ((kind = ANY (ARRAY['topup'::text, 'reserve'::text, 'charge'::text, 'release'::text])))
);

CREATE TABLE public.reservation (
    campaign_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    amount numeric(15,1) NOT NULL,
    charged numeric(15,1) DEFAULT 0 NOT NULL,
    released numeric(15,1) DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT reservation_amounts CHECK (((amount >= (0)::numeric) AND (charged >= (0)::numeric) AND (released >= (0)::numeric) AND (amount < 'Infinity'::numeric) AND (charged < 'Infinity'::numeric) AND (released < 'Infinity'::numeric)))
)
WITH (fillfactor='50');

CREATE TABLE public.workspace (
    id uuid DEFAULT uuidv7() NOT NULL,
    name text NOT NULL,
    credit numeric(15,1) DEFAULT 0 NOT NULL,
    reserved numeric(15,1) DEFAULT 0 NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    modified_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT workspace_reserved_within_credit CHECK ((((0)::numeric <= reserved) AND (reserved <= credit) AND (credit < 'Infinity'::numeric)))
)
WITH (fillfactor='50');

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (reference);

ALTER TABLE ONLY public.reservation
    ADD CONSTRAINT reservation_pkey PRIMARY KEY (campaign_id);

ALTER TABLE ONLY public.workspace
    ADD CONSTRAINT workspace_pkey PRIMARY KEY (id);

CREATE INDEX audit_log_object_id_idx ON public.audit_log USING btree (object_id, id);

CREATE INDEX audit_log_workspace_id_idx ON public.audit_log USING btree (workspace_id, id);

CREATE INDEX ledger_workspace_id_idx ON public.ledger USING btree (workspace_id, created_at);

CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.audit_log_is_append_only();

ALTER TABLE ONLY public.api_key
    ADD CONSTRAINT api_key_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT ledger_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

ALTER TABLE ONLY public.reservation
    ADD CONSTRAINT reservation_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES public.workspace(id);

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

INSERT INTO public.alembic_version VALUES ('0005');

\endif

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

INSERT INTO public.workspace VALUES ('00000000-0000-7000-8000-000000000001', 'University of Oulu', 1000.0, 0.0, 1, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00') ON CONFLICT DO NOTHING;

INSERT INTO public.ledger VALUES ('opening:00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000001', NULL, 'topup', 1000.0, '2024-01-01 00:00:00+00') ON CONFLICT DO NOTHING;
