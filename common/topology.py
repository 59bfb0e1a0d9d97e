"""The processes of the system, the servers that they need, and the traffic between them.

Plain data, and the only list of these names: the launcher, evaluation, the dashboard and the fault tests read it.
"""

from typing import Literal, NamedTuple

from common.settings import Settings

# Servers, by their names in heartbeats and /ready.
DS = "ds"
SALESDB = "salesdb"
REDIS = "redis"

# Processes.
WEBAPI = "webapi"
SALESAPI = "salesapi"
RPC = "rpc"
CARRIER = "carrier"
GENERAL_WORKER = "general_worker"
SALES_WORKER = "sales_worker"

# Redis pub/sub channels.
CREDIT_CHANNEL = "workspace_credit"  # each topic is a workspace id
CAMPAIGN_CHANNEL = "campaign_progress"  # each topic is `workspace id/campaign id`
HEARTBEAT_CHANNEL = "system_flows"  # each topic is `process name/process id`
CHANNELS = (CREDIT_CHANNEL, CAMPAIGN_CHANNEL, HEARTBEAT_CHANNEL)

# Job queues, and the jobs that other processes send to them.
GENERAL_QUEUE = "arq:general_queue"
SALES_QUEUE = "arq:sales_queue"
QUEUES = (GENERAL_QUEUE, SALES_QUEUE)

DEDUCT_CREDIT = "deduct_credit"
TOPUP_CREDIT = "topup_credit"
SEND_CAMPAIGN = "send_campaign"
SETTLE_OUTBOX = "settle_outbox"
GENERATE_SYSTEM_STAT = "generate_system_stat"

# Counters of a process, see common/observability/counters.py. The counter of a database has the database's name.
BATCHES = "batches"  # submitted to the carrier
CALLBACKS = "callbacks"  # requests
CHARGES = "charges"  # outbox entries in jobs
FRAMES = "frames"  # WebSocket messages
GRPC_CALLS = "grpc"
JOBS = "jobs"  # started by a worker
MESSAGES = "messages"  # submitted to the carrier
REPORTS = "reports"  # delivery reports in callbacks
SETTLED = "settled"  # outbox entries in the ledger


def job_sent(job: str) -> str:
    """The counter of sent jobs of this name."""
    return f"job {job}"


def published(channel: str) -> str:
    """The counter of events published on a channel."""
    return f"news {channel}"


def received(channel: str) -> str:
    """The counter of events received on a channel."""
    return f"heard {channel}"


Kind = Literal["service", "worker", "outside", "server", "client"]


class Server(NamedTuple):
    """A server that processes need; `dsn` is the name of the setting with its address."""

    name: str
    about: str
    dsn: str
    program: str  # the name of its processes in evaluations


class Process(NamedTuple):
    """A process of ours. `listens_on`, `metrics_on`: the settings of an address, either the whole or host and port."""

    name: str
    kind: Kind
    about: str
    command: tuple[str, ...]  # as an operator types it, without the Python before console.py
    needs: tuple[str, ...]  # the dependencies that its /ready checks
    listens_on: tuple[str, ...] = ()
    metrics_on: tuple[str, ...] = ()  # for /metrics, /health and /ready, if it does not listen for HTTP

    def address(self, settings: Settings) -> str:
        """The address it listens on, host:port or a URL; empty for a worker."""
        return _address(self.listens_on, settings)

    def metrics_url(self, settings: Settings) -> str:
        """The base URL of /metrics, /health and /ready; empty if its port is 0 (disabled)."""
        address = _address(self.metrics_on or self.listens_on, settings)
        return address if not address or "//" in address else f"http://{address}"


def _address(names: tuple[str, ...], settings: Settings) -> str:
    values = [str(getattr(settings, name)) for name in names]
    return "" if values[1:] == ["0"] else ":".join(values)


SERVERS = (
    Server(DS, "PostgreSQL", "ds_dsn", "postgresql ds"),
    Server(SALESDB, "PostgreSQL", "salesdb_dsn", "postgresql salesdb"),
    Server(REDIS, "jobs, pub/sub", "redis_url", "valkey"),
)

PROCESSES = (
    Process(
        WEBAPI,
        "service",
        "node 1",
        ("console.py", "webapi", "serve"),
        needs=(DS, REDIS, RPC),
        listens_on=("webapi_host", "webapi_port"),
    ),
    Process(
        SALESAPI,
        "service",
        "node 2",
        ("console.py", "salesapi", "serve"),
        needs=(SALESDB, REDIS, RPC),
        listens_on=("salesapi_host", "salesapi_port"),
    ),
    Process(
        RPC,
        "service",
        "node 3",
        ("console.py", "rpc", "serve"),
        needs=(DS, SALESDB),
        listens_on=("rpc_address",),
        metrics_on=("metrics_host", "rpc_metrics_port"),
    ),
    Process(
        CARRIER,
        "outside",
        "simulated",
        ("console.py", "carrier", "serve"),
        needs=(),
        listens_on=("carrier_url",),
    ),
    Process(
        GENERAL_WORKER,
        "worker",
        "credit",
        ("arq", "webapi.webapi.worker_swarm.general_worker.WorkerSettings"),
        needs=(DS, REDIS),
        metrics_on=("metrics_host", "general_metrics_port"),
    ),
    Process(
        SALES_WORKER,
        "worker",
        "sending",
        ("arq", "salesapi.salesapi.worker_swarm.sales_worker.WorkerSettings"),
        needs=(SALESDB, REDIS, RPC),
        metrics_on=("metrics_host", "sales_metrics_port"),
    ),
)

BROWSERS = "browsers"


class Traffic(NamedTuple):
    """One kind of traffic along an arrow, and the counters whose sum is its amount."""

    label: str
    counters: tuple[str, ...]


class Arrow(NamedTuple):
    """The traffic from one node to another, counted by the process `counted_by`; `unit` is that of the first kind."""

    source: str
    target: str
    counted_by: str
    unit: str
    traffic: tuple[Traffic, ...]


ARROWS = (
    Arrow(WEBAPI, BROWSERS, WEBAPI, "messages", (Traffic("WebSocket messages", (FRAMES,)),)),
    Arrow(
        REDIS,
        WEBAPI,
        WEBAPI,
        "updates",
        (Traffic("pub/sub: credit and campaigns", (received(CREDIT_CHANNEL), received(CAMPAIGN_CHANNEL))),),
    ),
    Arrow(WEBAPI, DS, WEBAPI, "queries", (Traffic("queries", (DS,)),)),
    Arrow(WEBAPI, RPC, WEBAPI, "calls", (Traffic("gRPC calls", (GRPC_CALLS,)),)),
    Arrow(REDIS, GENERAL_WORKER, GENERAL_WORKER, "jobs", (Traffic("jobs: charges, top-ups", (JOBS,)),)),
    Arrow(
        GENERAL_WORKER,
        REDIS,
        GENERAL_WORKER,
        "updates",
        (
            Traffic("pub/sub: credit", (published(CREDIT_CHANNEL),)),
            Traffic("jobs: settled", (job_sent(SETTLE_OUTBOX),)),
        ),
    ),
    Arrow(
        GENERAL_WORKER,
        DS,
        GENERAL_WORKER,
        "charges",
        (Traffic("charges settled", (SETTLED,)), Traffic("transactions", (DS,))),
    ),
    Arrow(RPC, DS, RPC, "queries", (Traffic("queries", (DS,)),)),
    Arrow(RPC, SALESDB, RPC, "queries", (Traffic("queries", (SALESDB,)),)),
    Arrow(SALESAPI, RPC, SALESAPI, "calls", (Traffic("gRPC calls", (GRPC_CALLS,)),)),
    Arrow(
        SALESAPI,
        REDIS,
        SALESAPI,
        "jobs",
        (
            Traffic("jobs: charges, sending", (job_sent(DEDUCT_CREDIT), job_sent(SEND_CAMPAIGN))),
            Traffic("charges in them", (CHARGES,)),
            Traffic("pub/sub: campaigns", (published(CAMPAIGN_CHANNEL),)),
        ),
    ),
    Arrow(SALESAPI, SALESDB, SALESAPI, "commits", (Traffic("commits and queries", (SALESDB,)),)),
    Arrow(REDIS, SALES_WORKER, SALES_WORKER, "jobs", (Traffic("jobs: sending, schedule", (JOBS,)),)),
    Arrow(
        SALES_WORKER,
        REDIS,
        SALES_WORKER,
        "jobs",
        (Traffic("jobs: relayed, sending", (job_sent(DEDUCT_CREDIT), job_sent(SEND_CAMPAIGN))),),
    ),
    Arrow(SALES_WORKER, SALESDB, SALES_WORKER, "queries", (Traffic("commits and queries", (SALESDB,)),)),
    Arrow(
        SALES_WORKER,
        CARRIER,
        SALES_WORKER,
        "messages",
        (Traffic("messages", (MESSAGES,)), Traffic("batches", (BATCHES,))),
    ),
    Arrow(
        CARRIER,
        SALESAPI,
        SALESAPI,
        "reports",
        (Traffic("delivery reports", (REPORTS,)), Traffic("callbacks", (CALLBACKS,))),
    ),
)
