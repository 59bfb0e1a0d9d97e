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

CREATE TYPE public.batch_state AS ENUM (
    'pending',
    'submitting',
    'submitted',
    'unknown',
    'refused',
    'closed'
);

CREATE TYPE public.campaign_status AS ENUM (
    'created',
    'scheduled',
    'inprogress',
    'paused',
    'cancelled',
    'completed'
);

CREATE TYPE public.sms_status AS ENUM (
    'queued',
    'failed',
    'sent',
    'undelivered',
    'delivered'
);

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

CREATE TABLE public.bulksms (
    id uuid NOT NULL,
    name text NOT NULL,
    workspace_id uuid NOT NULL,
    status public.campaign_status DEFAULT 'created'::public.campaign_status NOT NULL,
    message text NOT NULL,
    encoding text NOT NULL,
    segments smallint NOT NULL,
    row_count integer NOT NULL,
    contact_count integer NOT NULL,
    rejected_count integer NOT NULL,
    duplicate_count integer NOT NULL,
    total_cost numeric(15,1) NOT NULL,
    charged numeric(15,1) DEFAULT 0 NOT NULL,
    queued_count integer NOT NULL,
    sent_count integer DEFAULT 0 NOT NULL,
    failed_count integer DEFAULT 0 NOT NULL,
    delivered_count integer DEFAULT 0 NOT NULL,
    undelivered_count integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    modified_at timestamp with time zone DEFAULT now() NOT NULL,
    run_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    scheduled_for timestamp with time zone,
    resumed_at timestamp with time zone,
    pause_reason text,
    run_key text,
    retry_of uuid,
    unsent_count integer DEFAULT 0 NOT NULL,
    released numeric(15,1) DEFAULT 0 NOT NULL,
    deleted_at timestamp with time zone,
    purged_at timestamp with time zone,
    purge_pending boolean DEFAULT false NOT NULL,
    CONSTRAINT bulksms_amounts CHECK (((total_cost >= (0)::numeric) AND (charged >= (0)::numeric) AND (released >= (0)::numeric) AND (total_cost < 'Infinity'::numeric) AND (charged < 'Infinity'::numeric) AND (released < 'Infinity'::numeric))),
    CONSTRAINT bulksms_contacts CHECK ((contact_count = ((((queued_count + sent_count) + failed_count) + delivered_count) + undelivered_count))),
    CONSTRAINT bulksms_rows CHECK ((row_count = ((contact_count + rejected_count) + duplicate_count))),
    CONSTRAINT bulksms_scheduled CHECK (((status <> 'scheduled'::public.campaign_status) OR (scheduled_for IS NOT NULL)))
)
WITH (fillfactor='50');

CREATE TABLE public.bulksms_batch (
    bulksms_id uuid NOT NULL,
    batch_no integer NOT NULL,
    first_seq integer NOT NULL,
    last_seq integer NOT NULL,
    state public.batch_state DEFAULT 'pending'::public.batch_state NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    submitted_at timestamp with time zone,
    error text,
    uncertain boolean DEFAULT false NOT NULL,
    refused integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.bulksms_info (
    bulksms_id uuid NOT NULL,
    seq integer NOT NULL,
    contact_number text NOT NULL,
    contact_name text NOT NULL,
    fields text[],
    sms_status public.sms_status DEFAULT 'queued'::public.sms_status NOT NULL,
    sms_cost numeric(15,1) NOT NULL,
    error_code text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    modified_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT bulksms_info_cost CHECK (((sms_cost >= (0)::numeric) AND (sms_cost < 'Infinity'::numeric)))
)
WITH (fillfactor='60');

CREATE TABLE public.bulksms_rejected (
    bulksms_id uuid NOT NULL,
    line integer NOT NULL,
    value text NOT NULL,
    reason text NOT NULL
);

CREATE TABLE public.idempotency (
    workspace_id uuid NOT NULL,
    operation text NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.outbox (
    reference uuid DEFAULT uuidv7() NOT NULL,
    workspace_id uuid NOT NULL,
    bulksms_id uuid NOT NULL,
    kind text NOT NULL,
    amount numeric(15,1) NOT NULL,
    relay_count integer DEFAULT 0 NOT NULL,
    relay_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT outbox_amount CHECK (((amount > (0)::numeric) AND (amount < 'Infinity'::numeric))),
    CONSTRAINT outbox_kind CHECK ((kind = ANY (ARRAY['charge'::text, 'release'::text])))
);

CREATE TABLE public.workspace_retention (
    workspace_id uuid NOT NULL,
    days integer NOT NULL,
    CONSTRAINT workspace_retention_days CHECK ((days >= 0))
);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.bulksms_batch
    ADD CONSTRAINT bulksms_batch_pkey PRIMARY KEY (bulksms_id, batch_no);

ALTER TABLE ONLY public.bulksms_info
    ADD CONSTRAINT bulksms_info_pkey PRIMARY KEY (bulksms_id, seq);

ALTER TABLE ONLY public.bulksms
    ADD CONSTRAINT bulksms_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.bulksms_rejected
    ADD CONSTRAINT bulksms_rejected_pkey PRIMARY KEY (bulksms_id, line);

ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (workspace_id, operation, key);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (reference);

ALTER TABLE ONLY public.workspace_retention
    ADD CONSTRAINT workspace_retention_pkey PRIMARY KEY (workspace_id);

CREATE INDEX audit_log_object_id_idx ON public.audit_log USING btree (object_id, id);

CREATE INDEX audit_log_workspace_id_idx ON public.audit_log USING btree (workspace_id, id);

CREATE INDEX bulksms_batch_open_idx ON public.bulksms_batch USING btree (bulksms_id, batch_no) WHERE (state = ANY (ARRAY['pending'::public.batch_state, 'submitting'::public.batch_state]));

CREATE INDEX bulksms_batch_silent_idx ON public.bulksms_batch USING btree (submitted_at) WHERE (state = ANY (ARRAY['submitted'::public.batch_state, 'unknown'::public.batch_state]));

CREATE INDEX bulksms_cancelled_idx ON public.bulksms USING btree (id) WHERE ((status = 'cancelled'::public.campaign_status) AND (completed_at IS NULL));

CREATE INDEX bulksms_ended_idx ON public.bulksms USING btree (completed_at) WHERE ((completed_at IS NOT NULL) AND (purged_at IS NULL));

CREATE INDEX bulksms_purge_pending_idx ON public.bulksms USING btree (id) WHERE purge_pending;

CREATE INDEX bulksms_requested_idx ON public.bulksms USING btree (run_requested_at) WHERE ((status = ANY (ARRAY['created'::public.campaign_status, 'scheduled'::public.campaign_status])) AND (run_requested_at IS NOT NULL));

CREATE INDEX bulksms_retry_of_idx ON public.bulksms USING btree (retry_of) WHERE (retry_of IS NOT NULL);

CREATE INDEX bulksms_running_idx ON public.bulksms USING btree (id) WHERE (status = ANY (ARRAY['inprogress'::public.campaign_status, 'paused'::public.campaign_status]));

CREATE INDEX bulksms_scheduled_idx ON public.bulksms USING btree (scheduled_for) WHERE (status = 'scheduled'::public.campaign_status);

CREATE INDEX bulksms_workspace_id_idx ON public.bulksms USING btree (workspace_id, id);

CREATE INDEX idempotency_created_at_idx ON public.idempotency USING btree (created_at);

CREATE INDEX outbox_unsettled_idx ON public.outbox USING btree (relay_at) WHERE (settled_at IS NULL);

CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.audit_log_is_append_only();

ALTER TABLE ONLY public.bulksms_batch
    ADD CONSTRAINT bulksms_batch_bulksms_id_fkey FOREIGN KEY (bulksms_id) REFERENCES public.bulksms(id);

ALTER TABLE ONLY public.bulksms
    ADD CONSTRAINT bulksms_retry_of_fkey FOREIGN KEY (retry_of) REFERENCES public.bulksms(id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_bulksms_id_fkey FOREIGN KEY (bulksms_id) REFERENCES public.bulksms(id);

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

INSERT INTO public.bulksms VALUES ('00000000-0000-7000-8000-000000000002', 'A sample, not yet run', '00000000-0000-7000-8000-000000000001', 'created', 'Welcome to Oulu, {Contact Name}!', 'GSM-7', 1, 2, 2, 0, 0, 0.2, 0.0, 2, 0, 0, 0, 0, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0.0, NULL, NULL, false) ON CONFLICT DO NOTHING;

INSERT INTO public.bulksms_info VALUES ('00000000-0000-7000-8000-000000000002', 0, '+358400000001', 'Aino', '{Aino}', 'queued', 0.1, NULL, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00') ON CONFLICT DO NOTHING;
INSERT INTO public.bulksms_info VALUES ('00000000-0000-7000-8000-000000000002', 1, '+358400000002', 'Onni', '{Onni}', 'queued', 0.1, NULL, '2024-01-01 00:00:00+00', '2024-01-01 00:00:00+00') ON CONFLICT DO NOTHING;
