"""Bounds of who guesses, floods and repeats: token buckets, sockets, log lines, published secrets."""

import io
import logging
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from common.auth.failed_attempts import FailedAttempts
from common.auth.token_buckets import TokenBuckets
from common.observability.logs import RepeatFilter
from common.settings import SettingsError, load
from common.web.problems import Problem
from webapi.webapi.websocket_limits import SocketLimits


def test_an_owner_has_its_burst_and_owners_are_bounded() -> None:
    buckets = TokenBuckets(0.001, 3, owners=2)
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]
    assert buckets.take("b") == 0
    assert buckets.take("a") > 900
    buckets.take("c")
    assert len(buckets._buckets) == 2


def test_wrong_keys_are_counted_and_braked_by_address() -> None:
    metrics = CollectorRegistry()
    attempts = FailedAttempts(5, metrics)
    assert [attempts.add("192.0.2.1") > 0 for _ in range(7)] == [False] * 5 + [True] * 2
    assert attempts.add("192.0.2.2") == 0
    assert metrics.get_sample_value("bulksms_wrong_credentials_total") == 8


def test_sockets_are_bounded_per_key_and_in_all() -> None:
    limits, key = SocketLimits(per_key=1, in_all=3), uuid4()
    with limits.slot(key), limits.slot(None), limits.slot("192.0.2.1") as third:
        with pytest.raises(Problem, match="3 WebSockets are open"), limits.slot(None):
            pass
        with pytest.raises(Problem, match="of this key"):
            third.move(key)
    with limits.slot("192.0.2.1") as slot:
        slot.move(key)
        with limits.slot("192.0.2.1"), pytest.raises(Problem, match="of this key"), limits.slot(key):
            pass
    assert not limits._open


def test_lines_of_one_kind_are_bounded_and_counted() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(RepeatFilter(most=3, period=0.2))
    logger = logging.Logger("some")
    logger.addHandler(handler)
    for number in range(1_000):
        logger.error("it failed: %s", number, exc_info=ValueError("x"))
        logger.info("it runs")
    assert written.getvalue().count("it failed") == 3
    assert written.getvalue().count("it runs") == 1_000
    logger.warning("another")
    filtering = handler.filters[0]
    assert isinstance(filtering, RepeatFilter)
    for state in filtering._kinds.values():
        state[0] = 0  # its period is over
    logger.error("it failed: %s", 1_000)
    assert "it failed: 1000 (997 more were left out)" in written.getvalue()


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"SALESAPI_HOST": "0.0.0.0", "CALLBACK_SECRETS": "for-development-only"}, "CALLBACK_SECRETS"),
        ({"CARRIER_URL": "http://carrier:8004", "CALLBACK_SECRETS": "for-development-only"}, "CALLBACK_SECRETS"),
        ({"RPC_ADDRESS": "rpc:8003", "RPC_TOKEN": "for-development-only"}, "RPC_TOKEN"),
        ({"DS_DSN": "postgresql://postgres:postgres@db_ds:5432/ds"}, "DS_DSN"),
        ({"SALESDB_DSN": "postgresql://postgres:postgres@10.0.0.1/salesdb"}, "SALESDB_DSN"),
    ],
)
def test_published_secrets_are_refused_on_any_address_but_loopback(environ: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*published.*openssl") as refused:
        load(environ)
    assert "postgres:postgres" not in str(refused.value)
    load({"CALLBACK_SECRETS": "for-development-only", "RPC_TOKEN": "for-development-only"})
