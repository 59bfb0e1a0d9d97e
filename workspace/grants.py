"""What each process may do in ds. The ledger is append-only for all of them; keys are made by operators' commands."""

from common.grants import Grants
from common.topology import GENERAL_WORKER, RPC, WEBAPI

_CREDIT = "SELECT, UPDATE (credit, reserved, version, modified_at)"

GRANTS: Grants = {
    WEBAPI: {"workspace": "SELECT", "api_key": "SELECT", "audit_log": "SELECT, INSERT"},
    RPC: {
        "workspace": _CREDIT,
        "reservation": "SELECT, INSERT, UPDATE (charged, released)",
        "ledger": "SELECT, INSERT",
        "api_key": "SELECT",
    },
    GENERAL_WORKER: {
        "workspace": _CREDIT,
        "reservation": "SELECT, UPDATE (charged, released)",
        "ledger": "SELECT, INSERT",
        "audit_log": "SELECT, INSERT",
    },
}
