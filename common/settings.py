"""All settings of the system, which each process reads once from the environment and `.env`.

A process calls `load()` where it is assembled, and passes the values to those that need them.
"""

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from common.auth.loopback import is_loopback
from common.redact import without_user_info
from common.running import running_servers

ROOT = Path(__file__).resolve().parent.parent  # the repository, or where the wheel is installed
IS_CHECKOUT = (ROOT / "pyproject.toml").exists()
COMMAND = "python console.py" if IS_CHECKOUT else "bulksms"  # in messages to users
HOME = ROOT if IS_CHECKOUT else Path.cwd()  # of `.env` and of DATA_DIR

Port = Annotated[int, Meta(ge=1, le=65535)]
MetricsPort = Annotated[int, Meta(ge=0, le=65535)]
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class SettingsError(Exception):
    """A setting has an invalid value; the message names the setting and the expected values."""


class Settings(msgspec.Struct, frozen=True, rename="upper", kw_only=True):
    """The settings with their defaults. The name in the environment is the field's in capitals."""

    # addresses
    ds_dsn: Annotated[str, Meta(description="PostgreSQL of webapi: workspaces and their credit")] = (
        "postgresql://postgres:postgres@localhost:5432/ds"
    )
    salesdb_dsn: Annotated[str, Meta(description="PostgreSQL of salesapi: campaigns and their contacts")] = (
        "postgresql://postgres:postgres@localhost:5433/salesdb"
    )
    redis_url: Annotated[str, Meta(description="Redis or Valkey: job queues and pub/sub")] = "redis://localhost:6379"
    webapi_host: Annotated[str, Meta(description="address webapi listens on")] = "127.0.0.1"
    webapi_port: Annotated[Port, Meta(description="port webapi listens on")] = 8000
    salesapi_host: Annotated[str, Meta(description="address salesapi listens on")] = "127.0.0.1"
    salesapi_port: Annotated[Port, Meta(description="port salesapi listens on")] = 8002
    request_timeout: Annotated[
        Seconds,
        Meta(
            description="seconds to receive a request, and one more for every 4 kB of its body; "
            "also the time in which a client must read some of its response"
        ),
    ] = 20.0
    reuse_port: Annotated[
        bool, Meta(description="several processes of webapi, or of salesapi, may listen on its port and share the load")
    ] = False
    rpc_address: Annotated[str, Meta(description="host:port the gRPC server listens on and its clients call")] = (
        "127.0.0.1:8003"
    )
    carrier_url: Annotated[str, Meta(description="the carrier: where the simulator listens and messages are sent")] = (
        "http://127.0.0.1:8004"
    )
    callback_url: Annotated[str, Meta(description="where the carrier sends its reports: salesapi's `/callback`")] = (
        "http://127.0.0.1:8002/callback"
    )
    salesapi_url: Annotated[str, Meta(description="URL of salesapi for browsers, which the dashboard uses")] = (
        "http://localhost:8002"
    )
    dashboard_origins: Annotated[
        str, Meta(description="origins of the dashboard: pages that may call salesapi, separated by spaces")
    ] = "http://localhost:8000 http://127.0.0.1:8000"
    metrics_host: Annotated[
        str, Meta(description="address on which rpc and the workers serve `/metrics`, `/health` and `/ready`")
    ] = "127.0.0.1"
    rpc_metrics_port: Annotated[MetricsPort, Meta(description="port of rpc for these; 0 disables it")] = 8005
    general_metrics_port: Annotated[
        MetricsPort, Meta(description="port of the general worker for these; 0 disables it")
    ] = 8006
    sales_metrics_port: Annotated[
        MetricsPort, Meta(description="port of the sales worker for these; 0 disables it")
    ] = 8007
    otel_exporter_otlp_endpoint: Annotated[
        str,
        Meta(description="collector of traces (OTLP over HTTP), such as `http://localhost:4318`; empty: no traces"),
    ] = ""
    audit_period: Annotated[Seconds, Meta(description="seconds between two audits by rpc")] = 60.0
    data_dir: Annotated[str, Meta(description="folder of the embedded servers' and the simulator's data")] = ".data"
    log_level: Annotated[str, Meta(description="`debug`, `info`, `warning` or `error`")] = "info"

    # campaigns
    default_region: Annotated[
        str, Meta(pattern="^[A-Z]{2}$", description="region (ISO 3166-1) of phone numbers in national form")
    ] = "FI"
    retention_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="days after its end at which a campaign's text, contacts and rejected rows are deleted; "
            "0: never; `console.py workspace retention` sets it for one workspace",
        ),
    ] = 90
    sms_price: Annotated[Decimal, Meta(description="credits for one segment of one SMS; whole tenths")] = Decimal("0.1")
    message_validity: Annotated[
        Seconds, Meta(description="seconds without a delivery report after which a submitted message expires")
    ] = 86_400.0
    upload_max_bytes: Annotated[Count, Meta(description="largest body of `POST /create`, bytes")] = 256 * 1024 * 1024
    quota_drafts: Annotated[Count, Meta(description="most campaigns of a workspace that have not started")] = 100
    quota_open_contacts: Annotated[
        Count, Meta(description="most contacts of a workspace in campaigns that have not ended")
    ] = 5_000_000
    quota_contacts: Annotated[
        Count, Meta(description="most contacts of a workspace that are stored; deleted campaigns make room")
    ] = 20_000_000
    upload_timeout: Annotated[
        Seconds, Meta(description="seconds in which the whole body of a request must arrive, whatever its size")
    ] = 900.0
    uploads: Annotated[
        Count, Meta(description="uploads in progress at the same time, in one salesapi; more get 429")
    ] = 32
    uploads_per_key: Annotated[
        Count, Meta(description="uploads of one API key in progress at the same time; more get 429")
    ] = 4
    uploads_max_bytes: Annotated[
        Count,
        Meta(
            description="bytes that uploads in progress may hold in temporary files, in the folder `TMPDIR`; "
            "one key at most half of them"
        ),
    ] = 1024 * 1024 * 1024
    upload_processes: Annotated[
        Count, Meta(le=64, description="processes of one salesapi that store uploads, each one at a time")
    ] = 2
    scans: Annotated[
        Count,
        Meta(description="reads of contacts, rejected rows, timelines and results in progress; more get 429"),
    ] = 64
    scans_per_key: Annotated[Count, Meta(description="those of one API key; more get 429")] = 8
    send_batch: Annotated[Count, Meta(le=10_000, description="messages in one submission to the carrier")] = 500
    send_concurrency: Annotated[Count, Meta(le=64, description="concurrent submissions of one campaign")] = 4
    send_lease: Annotated[
        Seconds, Meta(description="seconds after which another worker takes over a batch; above `CARRIER_TIMEOUT`")
    ] = 15.0
    pause_refused_share: Annotated[
        Share, Meta(description="share of refused messages at which a campaign pauses automatically")
    ] = 0.5
    pause_refused_minimum: Annotated[
        Count, Meta(description="messages that a campaign must have sent before it pauses automatically")
    ] = 100
    carrier_idempotent: Annotated[
        bool,
        Meta(
            description="the carrier supports idempotency keys; if not, a batch in an unknown state is never sent again"
        ),
    ] = True
    carrier_timeout: Annotated[Seconds, Meta(description="seconds to wait for the carrier's response")] = 10.0

    # callbacks and credit
    callback_buffer: Annotated[Count, Meta(description="reports waiting to be committed before 503 is answered")] = (
        20_000
    )
    callback_flush: Annotated[Count, Meta(le=20_000, description="most reports in one committed flush")] = 2_000
    rpc_timeout: Annotated[Seconds, Meta(description="deadline of a gRPC call, seconds")] = 5.0
    relay_after: Annotated[Seconds, Meta(description="seconds after which an unsettled outbox entry is sent again")] = (
        5.0
    )

    # authentication
    key_cache_ttl: Annotated[
        float,
        Meta(gt=0, le=30, description="seconds a service caches a verified API key: a revoked one works that long"),
    ] = 20.0
    rate_limit: Annotated[
        float, Meta(ge=0, description="requests per second and API key that a service accepts; 0 means no limit")
    ] = 100.0
    rate_burst: Annotated[Count, Meta(description="requests that an API key may send in a burst")] = 200
    wrong_keys_per_minute: Annotated[
        Count, Meta(description="wrong API keys or tokens of one address in a minute before 429 is answered")
    ] = 60
    websockets_per_key: Annotated[
        Count, Meta(description="open WebSockets of one API key, and of one address before it has sent its key")
    ] = 200
    websockets_max: Annotated[Count, Meta(description="open WebSockets of one process of webapi")] = 10_000
    callback_secrets: Annotated[
        str,
        Meta(description="secrets of callbacks, comma-separated: the first signs, each is accepted; empty: unsigned"),
    ] = ""
    rpc_token: Annotated[
        str, Meta(description="token that rpc requires of its clients; empty: none, on loopback only")
    ] = ""
    rpc_idle_timeout: Annotated[
        Seconds, Meta(description="rpc: seconds without a call after which a connection is closed")
    ] = 60.0
    rpc_cert: Annotated[str, Meta(description="rpc: file of its certificate (PEM); empty: no TLS")] = ""
    rpc_key: Annotated[str, Meta(description="rpc: file of its private key (PEM)")] = ""
    rpc_client_ca: Annotated[
        str, Meta(description="rpc: file of the CA of its clients' certificates; empty: clients need none")
    ] = ""
    rpc_ca: Annotated[str, Meta(description="rpc's clients: file of the CA of its certificate; empty: no TLS")] = ""
    rpc_client_cert: Annotated[str, Meta(description="rpc's clients: file of their certificate (PEM)")] = ""
    rpc_client_key: Annotated[str, Meta(description="rpc's clients: file of their private key (PEM)")] = ""

    # the simulated carrier
    carrier_failed: Annotated[Share, Meta(description="simulator: share of messages that fail to be sent")] = 0.02
    carrier_undelivered: Annotated[Share, Meta(description="simulator: share of sent messages not delivered")] = 0.05
    carrier_duplicates: Annotated[Share, Meta(description="simulator: share of reports sent twice")] = 0.01
    carrier_out_of_order: Annotated[
        Share, Meta(description="simulator: share of messages whose final report comes before `sent`")
    ] = 0.01
    carrier_latency: Annotated[
        Seconds, Meta(description="simulator: mean seconds between the reports of a message")
    ] = 1.0
    carrier_seed: Annotated[int, Meta(description="simulator: the same seed gives each message the same outcome")] = 1
    carrier_array: Annotated[
        Count,
        Meta(le=1_000, description="simulator: most reports in one callback; 1 sends each alone, not in an array"),
    ] = 1
    carrier_connections: Annotated[Count, Meta(description="simulator: concurrent callbacks")] = 128
    carrier_mps: Annotated[
        int, Meta(ge=0, description="simulator: messages per second before 429; 0 means no limit")
    ] = 0

    carrier_callback_urls: Annotated[
        str,
        Meta(
            description="simulator: further URLs, beside `CALLBACK_URL`, to which it may send reports, "
            "separated by spaces: for load tests of other systems"
        ),
    ] = ""

    # the client commands
    workspace: Annotated[str, Meta(description="client: the workspace that it uses, a UUID")] = (
        "00000000-0000-7000-8000-000000000001"
    )
    api_key: Annotated[str, Meta(description="client: its API key; empty: none")] = ""

    @property
    def callback_keys(self) -> list[bytes]:
        """The secrets of signed callbacks; the first one signs."""
        return [secret.strip().encode() for secret in self.callback_secrets.split(",") if secret.strip()]

    @property
    def rpc_host(self) -> str:
        """The host that rpc listens on."""
        return self.rpc_address.rpartition(":")[0].strip("[]")

    @property
    def data_path(self) -> Path:
        """`data_dir`, relative to the repository; for an installed command, to the current folder."""
        return HOME / self.data_dir


def load(environ: dict[str, str] | None = None) -> Settings:
    """Read the settings: the environment first, then `.env`, then the defaults. Raises SettingsError."""
    values = configured(environ)
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        name = path.strip("`$.")
        raise SettingsError(f"{name}={without_user_info(values.get(name, ''))!r}: {message}") from None
    _check(settings)
    embedded = running_servers(settings.data_path)
    return msgspec.structs.replace(
        settings, **{name.lower(): address for name, address in embedded.items() if name not in values}
    )


def configured(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The settings in the environment or `.env` and their values, by their present names."""
    values = _variables(environ)
    renamed = {new: values[old] for old, new in _RENAMED.items() if values.get(old)}
    return {name: value for name in _names() if (value := values.get(name) or renamed.get(name))}


def renamed(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The settings in use under their former names, with their present names: each deserves a warning."""
    values = _variables(environ)
    return {old: new for old, new in _RENAMED.items() if values.get(old)}


def _variables(environ: dict[str, str] | None) -> dict[str, str | None]:
    return {**dotenv_values(HOME / ".env"), **(os.environ if environ is None else environ)}


def shipped(name: str) -> Path:
    """The path of a file at the repository's top level that the wheel contains too."""
    return ROOT / name if IS_CHECKOUT else ROOT / "local" / "shipped" / name


def host_and_port(address: str) -> tuple[str, int]:
    """The host and port of an address such as host:port or http://host:port/path."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.hostname or "127.0.0.1", parts.port or 0


def table() -> str:
    """The settings as the Markdown table of docs/settings.md: name, default, meaning."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{f.encode_name}` | {f'`{f.default}`' if f.default != '' else ''} | {_description(hints[f.name])} |"
        for f in _fields()
    ]
    return "\n".join(rows)


def _names() -> list[str]:
    return [field.encode_name for field in _fields()]


def _fields() -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(Settings)


def _description(hint: Any) -> str:
    return next(meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.description)


def _check(settings: Settings) -> None:
    """Check the rules that types cannot express."""
    for name, schemes in _SCHEMES.items():
        value = getattr(settings, name)
        if not _is_address(value, schemes):
            shown = without_user_info(value)
            raise SettingsError(f"{name.upper()}={shown!r}: expected an address such as {schemes[0]}://host:port")
    host, _, port = settings.rpc_address.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"RPC_ADDRESS={settings.rpc_address!r}: expected host:port")
    if not settings.sms_price.is_finite() or settings.sms_price <= 0 or settings.sms_price % Decimal("0.1"):
        raise SettingsError(f"SMS_PRICE={settings.sms_price}: expected whole tenths of a credit, above 0")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"LOG_LEVEL={settings.log_level!r}: expected debug, info, warning or error")
    if settings.send_lease <= settings.carrier_timeout:
        raise SettingsError(
            f"SEND_LEASE={settings.send_lease}: must be above CARRIER_TIMEOUT ({settings.carrier_timeout}), "
            "or a slow response of the carrier looks like a dead worker"
        )
    if any(len(secret) < _SHORTEST_SECRET for secret in settings.callback_keys):
        raise SettingsError(f"CALLBACK_SECRETS: each must have at least {_SHORTEST_SECRET} characters")
    if settings.rpc_token and len(settings.rpc_token) < _SHORTEST_SECRET:
        raise SettingsError(f"RPC_TOKEN: must have at least {_SHORTEST_SECRET} characters")
    _refuse_published(settings)
    for certificate, key in (("rpc_cert", "rpc_key"), ("rpc_client_cert", "rpc_client_key")):
        if bool(getattr(settings, certificate)) != bool(getattr(settings, key)):
            raise SettingsError(f"{certificate.upper()} and {key.upper()}: set both or neither")
    for name in ("rpc_cert", "rpc_key", "rpc_client_ca", "rpc_ca", "rpc_client_cert", "rpc_client_key"):
        if (path := getattr(settings, name)) and not Path(path).is_file():
            raise SettingsError(f"{name.upper()}={path!r}: file not found")


def _refuse_published(settings: Settings) -> None:
    """Refuse secrets that everyone can read in this repository, on any address but loopback."""
    for name in ("ds_dsn", "salesdb_dsn"):
        parts = urlsplit(getattr(settings, name))
        if parts.password in _PUBLISHED and not is_loopback(parts.hostname or "localhost"):
            raise SettingsError(f"{name.upper()}: its password is published with this software; {_OWN_SECRET}")
    hosts = (settings.webapi_host, settings.salesapi_host, settings.rpc_host, settings.metrics_host)
    carrier = host_and_port(settings.carrier_url)[0]
    if all(map(is_loopback, (*hosts, carrier))):
        return
    for name, secrets in (("CALLBACK_SECRETS", settings.callback_keys), ("RPC_TOKEN", [settings.rpc_token.encode()])):
        if any(secret.decode() in _PUBLISHED for secret in secrets):
            raise SettingsError(f"{name}: this secret is published with this software; {_OWN_SECRET}")


_PUBLISHED = ("for-development-only", "postgres")
_OWN_SECRET = "make your own, for example with `openssl rand -hex 32`, or use loopback addresses only"


def _is_address(value: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError, with a part of a password that has an unescaped `/`
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname or parts.query)


_SHORTEST_SECRET = 16  # characters

# Former names of settings, which are still read.
_RENAMED = {
    "SEND_LANES": "SEND_CONCURRENCY",
    "PAUSE_REFUSED_LEAST": "PAUSE_REFUSED_MINIMUM",
    "KEY_CACHE": "KEY_CACHE_TTL",
    "CARRIER_SWAPPED": "CARRIER_OUT_OF_ORDER",
}

_SCHEMES = {
    "ds_dsn": ("postgresql", "postgres"),
    "salesdb_dsn": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss"),
    "carrier_url": ("http", "https"),
    "callback_url": ("http", "https"),
    "salesapi_url": ("http", "https"),
}
