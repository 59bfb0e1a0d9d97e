"""Helper processes of a benchmark: the load client, wrk, the callback ceiling."""

import asyncio
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from benchmarks.bench import until
from benchmarks.load import LoadResult
from common.auth.signatures import Secret
from common.settings import ROOT
from local.ports import free_port
from local.servers import is_answering

_WRK_SCRIPT = """
local seq = {first} - 1
request = function()
  seq = seq + 1
  return wrk.format("POST", nil, {{["Content-Type"] = "application/json"}},
    '{{"message_id":"{campaign}-' .. seq .. '","status":"sent","timestamp":"2026-01-01T00:00:00Z"}}')
end
"""

# wrk cannot sign: it repeats one report that was signed before. A server without a database accepts that.
_WRK_SIGNED = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-Signature"] = "{signature}"
wrk.body = '{body}'
"""


async def load(url: str, campaign: str, count: int, **options: object) -> LoadResult:
    """Run our load client; `options` are those of `python -m benchmarks.load`."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.load", url, "--campaign", campaign, "--count", str(count), *words]
    return msgspec.json.decode(await _output(command), type=LoadResult)


async def wrk(url: str, campaign: str, folder: Path, *, secret: str = "", seconds: int = 3) -> float | None:
    """Measure answered requests per second with wrk; None if it is not installed. `secret`: that of the ceiling."""
    if shutil.which("wrk") is None:
        return None
    script = folder / "reports.lua"
    script.write_text(_signed(campaign, secret) if secret else _WRK_SCRIPT.format(first=0, campaign=campaign))
    output = await _output(["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(script), url])
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", output.decode())
    if rate is None or "Non-2xx" in output.decode():
        raise RuntimeError(f"wrk reported errors: {output.decode()}")
    return float(rate[1])


def _signed(campaign: str, secret: str) -> str:
    body = f'{{"message_id":"{campaign}-0","status":"sent","timestamp":"2026-01-01T00:00:00Z"}}'
    return _WRK_SIGNED.format(body=body, signature=Secret(secret.encode()).sign(body.encode(), time.time()).decode())


@asynccontextmanager
async def ceiling(secret: str = "") -> AsyncIterator[str]:
    """Run a `/callback` without a database, and yield its URL; with `secret`, it accepts only signed requests."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.ceiling", str(port), *([secret] if secret else [])]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        await until(lambda: asyncio.to_thread(is_answering, "127.0.0.1", port))
        yield f"http://127.0.0.1:{port}/callback"
    finally:
        process.terminate()
        await process.wait()


async def _output(command: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return output
