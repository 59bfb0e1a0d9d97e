"""Writes evaluations to a folder: the samples as CSV, a plot of each, and a report that compares them."""

import csv
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from local.evaluation.sampling import STATUSES, Evaluation


def write(folder: Path, evaluations: Sequence[Evaluation]) -> Path:
    """Write everything to `folder`; return the path of the report."""
    from local.evaluation.plots import plot  # matplotlib takes a second to import

    folder.mkdir(parents=True, exist_ok=True)
    for evaluation in evaluations:
        _write_samples(folder, evaluation)
        plot(evaluation, folder / f"{evaluation.name}.png")
    report = folder / "README.md"
    report.write_text(_report(evaluations), encoding="utf-8")
    return report


def _write_samples(folder: Path, evaluation: Evaluation) -> None:
    with (folder / f"{evaluation.name}-processes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", "process", "cpu_percent_of_one_core", "memory_mb"))
        for sample in evaluation.samples:
            for name, use in sample.processes.items():
                rows.writerow((f"{sample.at - evaluation.zero:.3f}", name, f"{use.cpu:.1f}", f"{use.memory:.1f}"))
    with (folder / f"{evaluation.name}-campaign.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("seconds", *STATUSES, "credit", "reserved"))
        for sample in evaluation.samples:
            counts = (sample.progress.contacts[status] for status in STATUSES)
            rows.writerow(
                (f"{sample.at - evaluation.zero:.3f}", *counts, sample.progress.credit, sample.progress.reserved)
            )


def _report(evaluations: Sequence[Evaluation]) -> str:
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.names))
    when = datetime.fromtimestamp(evaluations[0].zero, UTC)
    parts = [
        "# Evaluation",
        f"{when:%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}; services, workers, servers and the simulated carrier on one machine.",
        _markdown(("campaign", *(evaluation.name for evaluation in evaluations)), _facts(evaluations)),
        "Peak CPU, percent of one core:",
        _markdown(("process", *(evaluation.name for evaluation in evaluations)), _peaks(evaluations, names, "cpu")),
        "Peak memory, MB; shared memory of PostgreSQL is counted once:",
        _markdown(("process", *(evaluation.name for evaluation in evaluations)), _peaks(evaluations, names, "memory")),
    ]
    for evaluation in evaluations:
        parts += [
            f"## {evaluation.name}",
            f"![CPU, memory, messages and credit of {evaluation.name}]({evaluation.name}.png)",
        ]
        parts.append(
            f"Campaign `{evaluation.bulksms_id}`. Samples: "
            f"[{evaluation.name}-processes.csv]({evaluation.name}-processes.csv), "
            f"[{evaluation.name}-campaign.csv]({evaluation.name}-campaign.csv)."
        )
    return "\n\n".join(parts) + "\n"


def _facts(evaluations: Sequence[Evaluation]) -> Iterable[tuple[str, ...]]:
    yield "contacts", *(f"{evaluation.contacts:,}" for evaluation in evaluations)
    yield "seconds", *(f"{evaluation.seconds:.1f}" if evaluation.seconds else "not ended" for evaluation in evaluations)
    yield (
        "messages/s",
        *(
            f"{evaluation.contacts / evaluation.seconds:,.0f}" if evaluation.seconds else ""
            for evaluation in evaluations
        ),
    )
    yield "charged, credits", *(str(evaluation.end.charged) for evaluation in evaluations)
    yield "CPU of all, seconds", *(f"{evaluation.cpu_seconds:.2f}" for evaluation in evaluations)
    yield "peak CPU of all, percent of one core", *(f"{evaluation.peak_of_all.cpu:.0f}" for evaluation in evaluations)
    yield "peak memory of all, MB", *(f"{evaluation.peak_of_all.memory:.0f}" for evaluation in evaluations)


def _peaks(evaluations: Sequence[Evaluation], names: Iterable[str], resource: str) -> Iterable[tuple[str, ...]]:
    for name in names:
        yield name, *(f"{getattr(evaluation.peak(name), resource):.0f}" for evaluation in evaluations)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
