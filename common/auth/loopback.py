"""Protected mode: what asks for no secret may be reached from this machine only."""

from ipaddress import ip_address


class UnprotectedError(Exception):
    """A service was told to be reachable from other machines without what keeps strangers out."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name other than `localhost` may be anywhere."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def require(host: str, secret: object, what: str, mend: str) -> None:
    """Raise UnprotectedError if `host` is no loopback address and there is no `secret`."""
    if not secret and not is_loopback(host):
        raise UnprotectedError(f"{what} would be open to everyone who reaches {host}: {mend}, or listen on 127.0.0.1")
