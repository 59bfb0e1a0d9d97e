"""Passwords of addresses do not get into messages, logs or command lines."""

import pytest

from common.observability.logs import masked
from common.redact import split_password
from common.settings import SettingsError, load


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://:hunter2@host:6379"),
        ("REDIS_URL", "redis://:hunter2/x@host:6379"),
        ("REDIS_URL", ":hunter2@host"),
        ("DS_DSN", "mysql://user:hunter2@host/ds"),
        ("DS_DSN", "postgresql://user:hunter2@[host/ds"),
        ("SALESDB_DSN", "mysql://host/ds?user=x&password=hunter2"),
        ("CARRIER_URL", "ftp://user:hunter2@host"),
    ],
)
def test_an_error_of_a_setting_does_not_show_its_password(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as raised:
        load({name: value})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://ds:hunter2@db:5432/ds now",
        "rediss://:hunter2@redis:6380/0?ssl_ca_certs=/ca.pem",
        "postgresql://ds@db/ds?sslmode=verify-full&password=hunter2",
        '{"url": "redis://user:hun%20ter2hunter2@redis"}',
    ],
)
def test_logs_mask_passwords_of_addresses(text: str) -> None:
    assert "hunter2" not in masked(text)
    assert "ter2" not in masked(text)


def test_a_dsn_is_split_for_psql() -> None:
    assert split_password("postgresql://me:a%2Fb@db:1/ds?sslmode=require") == (
        "postgresql://me@db:1/ds?sslmode=require",
        {"PGPASSWORD": "a/b"},
    )
    assert split_password("postgresql://db/ds?password=x") == ("postgresql://db/ds", {"PGPASSWORD": "x"})
    assert split_password("postgresql:///ds?host=/run") == ("postgresql:///ds?host=%2Frun", {})
