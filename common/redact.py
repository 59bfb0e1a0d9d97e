"""Addresses of servers without their passwords: for messages, logs and command lines, which other accounts can read."""

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

# Up to the last @ before a space, slash or quote: a password may hold one. Bounded, since it runs on every log line.
_USER_INFO = re.compile(r"(://[^\s:/@'\"]{0,256}):[^\s/'\"]{1,512}@")
_PARAMETER = re.compile(r"([?&](?:password|sslpassword)=)[^&\s'\"]+", re.IGNORECASE)
_BEFORE_HOST = re.compile(r"^(\w+://)?.*@", re.DOTALL)


def without_passwords(text: str) -> str:
    """Replace the password of every URL in a text by `***`."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1:***@", text))


def without_user_info(address: str) -> str:
    """Replace all before the last `@` of one address, which may be malformed, by `***`; and passwords after it."""
    return _PARAMETER.sub(r"\1***", _BEFORE_HOST.sub(r"\1***@", address))


def split_password(dsn: str) -> tuple[str, dict[str, str]]:
    """Split a PostgreSQL DSN into one without its password, for argv, and `PGPASSWORD` for the environment."""
    parts = urlsplit(dsn)
    user_info, at, host = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    password = query.pop("password", unquote(password))
    bare = f"{parts.scheme}://{user}{at}{host}{parts.path}{'?' if query else ''}{urlencode(query, quote_via=quote)}"
    return bare, {"PGPASSWORD": password} if password else {}
