"""The operations of webapi, one entry each: its routes and its OpenAPI document are made from these."""

from collections.abc import Sequence

from common.web.operations import Operation
from rpc.client import Progress
from webapi.webapi import system_topology
from webapi.webapi.credit_events import CreditView
from webapi.webapi.endpoints import (
    Endpoints,
    ProgressList,
    ReferenceInUse,
    ToppedUp,
    TopUp,
    WorkspacePage,
    WorkspacesQuery,
)
from webapi.webapi.system_status import SystemMonitor, SystemStatus
from webapi.webapi.system_topology import SystemTopology

DESCRIPTION = (
    'The credit of workspaces. On the WebSocket `/ws` send `{"workspace_id": "..."}`, or a list of up to 100 ids, to '
    "get the credit at once and whenever it changes, as `GET /workspaces/{workspace_id}` returns it. With "
    '`"campaigns": true` you get each campaign as well, in `{"campaign": ...}` as `GET /bulksms/{bulksms_id}` returns '
    "it. Errors are problem details (RFC 9457)."
)


def operations(endpoints: Endpoints, system: SystemMonitor, shared: Sequence[Operation]) -> tuple[Operation, ...]:
    """All operations of webapi; `shared`: those that every process has."""
    return (
        Operation(
            "GET",
            "/workspaces",
            endpoints.list_workspaces,
            "All workspaces, or the key's own",
            {200: WorkspacePage},
            query=WorkspacesQuery,
        ),
        Operation(
            "GET",
            "/workspaces/{workspace_id}",
            endpoints.get_workspace,
            "A workspace's credit now",
            {200: CreditView},
            problems=(404,),
        ),
        Operation(
            "POST",
            "/workspaces/{workspace_id}/topup",
            endpoints.top_up,
            "Add credit; the same reference adds it only once",
            {200: ToppedUp, 422: ReferenceInUse},
            problems=(404, 413, 415),
            body=TopUp,
            action="credit.topup",
        ),
        Operation(
            "GET",
            "/workspaces/{workspace_id}/bulksms",
            endpoints.list_campaigns,
            "A workspace's newest campaigns",
            {200: ProgressList},
            (404,),
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}",
            endpoints.get_campaign,
            "A campaign's progress",
            {200: Progress},
            problems=(404,),
        ),
        Operation(
            "GET",
            "/system/flows",
            system.endpoint,
            "What each process does per second, and which servers answer",
            {200: SystemStatus},
        ),
        Operation(
            "GET",
            "/system/topology",
            system_topology.endpoint,
            "The parts of the system",
            {200: SystemTopology},
            is_open=True,
        ),
        *shared,
    )
