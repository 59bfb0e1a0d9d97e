"""Samples of a campaign and of all processes, taken together at regular intervals."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import structlog

from local.evaluation.processes import Processes, Usage

STATUSES = ("queued", "sent", "delivered", "undelivered", "failed")

log = structlog.get_logger()


class Progress(NamedTuple):
    """A campaign at a moment: contacts by status, credit of its workspace, start and end if they have happened."""

    contacts: dict[str, int]
    charged: Decimal
    credit: Decimal
    reserved: Decimal
    started_at: datetime | None
    completed_at: datetime | None


class Use(NamedTuple):
    """A process in a sample: CPU since the previous sample, in percent of one core, and memory in MB (10^6 bytes)."""

    cpu: float
    memory: float


class Sample(NamedTuple):
    """One sample; `at` is in unix seconds."""

    at: float
    processes: dict[str, Use]
    progress: Progress


class Evaluation(NamedTuple):
    """One campaign with its samples; `name` is that of its files."""

    name: str
    bulksms_id: str
    samples: list[Sample]

    @property
    def end(self) -> Progress:
        return self.samples[-1].progress

    @property
    def contacts(self) -> int:
        return sum(self.end.contacts.values())

    @property
    def zero(self) -> float:
        """When the campaign started, in unix seconds; if it has not, the time of the first sample."""
        started = self.end.started_at
        return started.timestamp() if started else self.samples[0].at

    @property
    def seconds(self) -> float | None:
        """Seconds from its start to its last final message; None if it has not ended."""
        completed = self.end.completed_at
        return completed.timestamp() - self.zero if completed else None

    @property
    def names(self) -> list[str]:
        """The names of the sampled processes."""
        return list(dict.fromkeys(name for sample in self.samples for name in sample.processes))

    def peak(self, name: str) -> Use:
        """The maximum use of a process in any sample."""
        return _most([sample.processes[name] for sample in self.samples if name in sample.processes])

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all processes from the campaign's start to the first sample after its end."""
        used = 0.0
        for before, sample in pairwise(self.samples):
            if sample.at >= self.zero and not before.progress.completed_at:
                used += (sample.at - before.at) * sum(use.cpu for use in sample.processes.values()) / 100
        return used

    @property
    def peak_of_all(self) -> Use:
        """The maximum total use of all processes in any sample."""
        return _most(
            [
                Use(sum(use.cpu for use in uses), sum(use.memory for use in uses))
                for sample in self.samples
                if (uses := sample.processes.values())
            ]
        )


def _most(uses: list[Use]) -> Use:
    return Use(max((use.cpu for use in uses), default=0.0), max((use.memory for use in uses), default=0.0))


class Sampler:
    """Takes a sample of the processes, and of the campaign with `progress`, every `period` seconds."""

    def __init__(self, processes: Processes, progress: Callable[[], Awaitable[Progress]], period: float) -> None:
        self.samples: list[Sample] = []
        self._processes = processes
        self._progress = progress
        self._period = period
        self._sampled = asyncio.Event()

    async def run(self) -> None:
        """Take samples until cancelled; one that fails is skipped."""
        before, usage = await asyncio.to_thread(self._read)
        due = before
        while True:
            due = max(due + self._period, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            now, latest = await asyncio.to_thread(self._read)
            uses = {name: _use(usage.get(name), one, now - before) for name, one in latest.items()}
            before, usage = now, latest
            try:
                self.samples.append(Sample(time.time(), uses, await self._progress()))
                self._sampled.set()
            except Exception as error:
                log.warning("a sample could not be taken", reason=str(error) or type(error).__name__)

    async def next_sample(self) -> None:
        """Wait for a sample that starts after this call."""
        now = time.time()
        while not self.samples or self.samples[-1].at < now:
            self._sampled.clear()
            await self._sampled.wait()

    def _read(self) -> tuple[float, dict[str, Usage]]:
        usage = self._processes.usage()
        return time.monotonic(), usage


def _use(before: Usage | None, now: Usage, seconds: float) -> Use:
    return Use((now.cpu - before.cpu) / seconds * 100 if before else 0.0, now.memory)
