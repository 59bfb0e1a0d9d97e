"""Protected mode: a service without authentication listens on loopback only."""

from ipaddress import ip_address


class UnprotectedError(Exception):
    """A service is configured to be reachable from other machines without authentication."""


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address. A name other than `localhost` may resolve to any address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def require(host: str, secret: object, service: str, remedy: str) -> None:
    """Raise UnprotectedError if `host` is not a loopback address and there is no `secret`."""
    if not secret and not is_loopback(host):
        raise UnprotectedError(
            f"{service} would accept anyone who can connect to {host}: {remedy}, or listen on 127.0.0.1"
        )
