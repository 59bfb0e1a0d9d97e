"""The passwords of the embedded servers: generated at the first start, kept in the data folder for its owner only."""

import base64
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterable
from hashlib import pbkdf2_hmac, sha256
from pathlib import Path

FILE = "passwords.json"
_ITERATIONS = 4096  # PostgreSQL's default; the passwords are random, so more would only delay each connection


def passwords(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The password of each name, kept in this folder; generates those that are missing (128 random bits, hex)."""
    file = folder / FILE
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    missing = {name: secrets.token_hex(16) for name in names if name not in known}
    if missing:
        known |= missing
        write_private(file, json.dumps(known, indent=1) + "\n")
    return known


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old content or the new one."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    new.replace(file)


def make_private(folder: Path, group: int | None) -> None:
    """Create a folder, or close an existing one, to all accounts but ours; the group may pass through it.

    A shared folder such as /tmp is left as it is: what is in it is private by itself.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid():
        return
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(0o700 if group is None else 0o710)


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of an ASCII password (RFC 5802, RFC 7677), so that the password is in no log of it."""
    salt = os.urandom(16)
    salted = pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
