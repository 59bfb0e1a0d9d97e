"""Settings that have been renamed are still read under their former names."""

import os
import subprocess
import sys
from pathlib import Path

from common.settings import ROOT, configured, load
from local.ports import free_port


def test_a_former_name_is_still_read() -> None:
    assert load({"SEND_LANES": "7"}).send_concurrency == 7
    assert configured({"SEND_LANES": "7"})["SEND_CONCURRENCY"] == "7"


def test_the_present_name_takes_precedence() -> None:
    assert load({"SEND_LANES": "7", "SEND_CONCURRENCY": "9"}).send_concurrency == 9


def test_a_process_warns_of_a_former_name_in_its_log(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "CARRIER_SWAPPED": "0.2",
        "CARRIER_URL": f"http://127.0.0.1:{free_port()}",
        "DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "console.py", "carrier", "serve"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        warning = next((line for line in process.stderr if "CARRIER_SWAPPED" in line), "")
        process.terminate()
    assert "CARRIER_OUT_OF_ORDER" in warning
    assert '"level": "warning"' in warning
