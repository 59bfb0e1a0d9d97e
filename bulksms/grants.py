"""What each process may do in salesdb: rpc only reads, for its audit; nobody but sales_worker deletes anything."""

from common.grants import Grants
from common.topology import RPC, SALES_WORKER, SALESAPI

GRANTS: Grants = {
    SALESAPI: {
        "bulksms": "SELECT, INSERT, UPDATE",
        "bulksms_info": "SELECT, INSERT, UPDATE (sms_status, error_code, modified_at)",
        "bulksms_rejected": "SELECT, INSERT",
        "bulksms_batch": "SELECT, INSERT, UPDATE",
        "outbox": "SELECT, INSERT",
        "idempotency": "SELECT, INSERT",
    },
    SALES_WORKER: {
        "bulksms": "SELECT, UPDATE",
        "bulksms_info": "SELECT, UPDATE (sms_status, error_code, modified_at)",
        "bulksms_batch": "SELECT, INSERT, UPDATE",
        "outbox": "SELECT, INSERT, UPDATE (relay_count, relay_at, settled_at)",
        "idempotency": "SELECT, INSERT, DELETE",
    },
    RPC: {
        "bulksms": "SELECT",
        "bulksms_info": "SELECT",
        "bulksms_batch": "SELECT",
        "outbox": "SELECT",
    },
}
