"""Commands of the venv, run as a user would."""

import os
import subprocess
import sys
from pathlib import Path

from common.settings import ROOT


def run(*command: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as someone in the venv would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, **environ}, capture_output=True, text=True, timeout=240
    )
