"""What each process may do in salesdb: rpc only reads, for its audit; nobody but sales_worker deletes anything."""

from common.grants import Grants
from common.topology import RPC, SALES_WORKER, SALESAPI

GRANTS: Grants = {
    SALESAPI: {
        "bulksms": "SELECT, INSERT, UPDATE",
        "bulksms_info": (
            "SELECT, INSERT, UPDATE (contact_number, contact_name, fields, sms_status, error_code, modified_at)"
        ),
        "bulksms_rejected": "SELECT, INSERT, UPDATE (value)",
        "bulksms_batch": "SELECT, INSERT, UPDATE",
        "outbox": "SELECT, INSERT",
        "idempotency": "SELECT, INSERT, UPDATE (answer)",
        "audit_log": "SELECT, INSERT",
    },
    SALES_WORKER: {
        "bulksms": "SELECT, UPDATE",
        "bulksms_info": "SELECT, DELETE, UPDATE (sms_status, error_code, modified_at)",
        "bulksms_rejected": "SELECT, DELETE",
        "bulksms_batch": "SELECT, INSERT, UPDATE, DELETE",
        "outbox": "SELECT, INSERT, UPDATE (relay_count, relay_at, settled_at)",
        "idempotency": "SELECT, INSERT, DELETE",
        "workspace_retention": "SELECT",
        "audit_log": "SELECT, INSERT",
    },
    RPC: {
        "bulksms": "SELECT",
        "bulksms_info": "SELECT",
        "bulksms_batch": "SELECT",
        "outbox": "SELECT",
    },
}
