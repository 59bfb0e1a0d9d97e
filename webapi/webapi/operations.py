"""What webapi does, one entry for each operation: its OpenAPI document is made of these."""

from common.web.openapi import HEALTH, Operation, document
from rpc.client import Progress
from webapi.webapi.credit_events import CreditNews
from webapi.webapi.endpoints import ProgressList, ToppedUp, TopUp, WorkspacePage, WorkspacesQuery
from webapi.webapi.system_status import SystemStatus
from webapi.webapi.system_topology import SystemTopology

OPERATIONS = (
    Operation("GET", "/workspaces", "All workspaces, or the key's own", {200: WorkspacePage}, query=WorkspacesQuery),
    Operation("GET", "/workspaces/{workspace_id}", "A workspace's credit now", {200: CreditNews}, problems=(404,)),
    Operation(
        "POST",
        "/workspaces/{workspace_id}/topup",
        "Add credit; the same reference adds it once",
        {200: ToppedUp},
        problems=(404, 413, 415, 422),
        body=TopUp,
    ),
    Operation(
        "GET", "/workspaces/{workspace_id}/bulksms", "A workspace's newest campaigns", {200: ProgressList}, (404,)
    ),
    Operation("GET", "/bulksms/{bulksms_id}", "A campaign's progress", {200: Progress}, problems=(404,)),
    Operation(
        "GET", "/system/flows", "What each process does per second, and which servers answer", {200: SystemStatus}
    ),
    Operation("GET", "/system/topology", "The parts of the system", {200: SystemTopology}, is_open=True),
    *HEALTH,
)

DOCUMENT = document(
    "webapi",
    'The credit of workspaces. On the WebSocket `/ws` send `{"workspace_id": "..."}`, or a list of up to 100, and get '
    "the credit at once and whenever it changes, as `GET /workspaces/{workspace_id}` answers it. With "
    '`"campaigns": true` each campaign as well, in `{"campaign": ...}` as `GET /bulksms/{bulksms_id}` answers it. '
    "Errors are RFC 9457.",
    OPERATIONS,
)
