"""Writes evaluations into a folder: the samples as CSV, a picture of each, and a report that compares them."""

import csv
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from local.evaluation.sampling import STATUSES, Evaluation


def write(folder: Path, evaluations: Sequence[Evaluation]) -> Path:
    """Leave everything in `folder`; returns the path of the report."""
    from local.evaluation.plots import plot  # matplotlib takes a second to import

    folder.mkdir(parents=True, exist_ok=True)
    for one in evaluations:
        _write_samples(folder, one)
        plot(one, folder / f"{one.name}.png")
    report = folder / "README.md"
    report.write_text(_report(evaluations), encoding="utf-8")
    return report


def _write_samples(folder: Path, one: Evaluation) -> None:
    with (folder / f"{one.name}-processes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", "process", "cpu_percent_of_one_core", "memory_mb"))
        for sample in one.samples:
            for name, use in sample.processes.items():
                rows.writerow((f"{sample.at - one.zero:.3f}", name, f"{use.cpu:.1f}", f"{use.memory:.1f}"))
    with (folder / f"{one.name}-campaign.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", *STATUSES, "credit", "reserved"))
        for sample in one.samples:
            counts = (sample.progress.contacts[status] for status in STATUSES)
            rows.writerow((f"{sample.at - one.zero:.3f}", *counts, sample.progress.credit, sample.progress.reserved))


def _report(evaluations: Sequence[Evaluation]) -> str:
    names = list(dict.fromkeys(name for one in evaluations for name in one.names))
    when = datetime.fromtimestamp(evaluations[0].zero, UTC)
    parts = [
        "# Evaluation",
        f"{when:%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}; services, workers, servers and the simulated carrier on one machine.",
        _markdown(("campaign", *(one.name for one in evaluations)), _facts(evaluations)),
        "Peak CPU, percent of one core:",
        _markdown(("process", *(one.name for one in evaluations)), _peaks(evaluations, names, "cpu")),
        "Peak memory, MB; what the processes of a PostgreSQL share is counted once:",
        _markdown(("process", *(one.name for one in evaluations)), _peaks(evaluations, names, "memory")),
    ]
    for one in evaluations:
        parts += [f"## {one.name}", f"![CPU, memory, messages and credit of {one.name}]({one.name}.png)"]
        parts.append(
            f"Campaign `{one.bulksms_id}`. The samples: [{one.name}-processes.csv]({one.name}-processes.csv), "
            f"[{one.name}-campaign.csv]({one.name}-campaign.csv)."
        )
    return "\n\n".join(parts) + "\n"


def _facts(evaluations: Sequence[Evaluation]) -> Iterable[tuple[str, ...]]:
    yield "contacts", *(f"{one.contacts:,}" for one in evaluations)
    yield "seconds", *(f"{one.seconds:.1f}" if one.seconds else "not ended" for one in evaluations)
    yield "messages/s", *(f"{one.contacts / one.seconds:,.0f}" if one.seconds else "" for one in evaluations)
    yield "charged, credits", *(str(one.end.charged) for one in evaluations)
    yield "CPU of all, seconds", *(f"{one.cpu_seconds:.2f}" for one in evaluations)
    yield "peak CPU of all, percent of one core", *(f"{one.peak_of_all.cpu:.0f}" for one in evaluations)
    yield "peak memory of all, MB", *(f"{one.peak_of_all.memory:.0f}" for one in evaluations)


def _peaks(evaluations: Sequence[Evaluation], names: Iterable[str], what: str) -> Iterable[tuple[str, ...]]:
    for name in names:
        yield name, *(f"{getattr(one.peak(name), what):.0f}" for one in evaluations)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
