"""The plot of one campaign: CPU and memory by process, messages by status, and credit, on one time axis."""

from pathlib import Path
from typing import Any

import matplotlib

from common.topology import SERVERS
from local.evaluation.processes import NAMES
from local.evaluation.sampling import STATUSES, Evaluation

matplotlib.use("Agg")

from matplotlib import pyplot  # imported after the backend is chosen

# Okabe and Ito's colour-blind safe palette. Servers are dashed; a database has the colour of the service that owns it.
_PALETTE = ("#0072B2", "#D55E00", "#CC79A7", "#999999", "#009E73", "#E69F00", "#0072B2", "#D55E00", "#000000")
_PROCESSES = dict(zip(NAMES, _PALETTE, strict=True))
_DASHED = {server.program for server in SERVERS}
_STATUSES = dict(zip(STATUSES, ("#DDDDDD", "#56B4E9", "#009E73", "#E69F00", "#D55E00"), strict=True))
_LEGEND_RIGHT: dict[str, Any] = {
    "loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 8, "frameon": False, "reverse": True
}  # fmt: skip
_TIME = "seconds from the start (dotted: start and end)"


def plot(evaluation: Evaluation, path: Path) -> None:
    """Draw the evaluation into a PNG at `path`."""
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7), sharex=True, layout="constrained")
    times = [sample.at - evaluation.zero for sample in evaluation.samples]
    _usage(panels[0][0], evaluation, times, "cpu")
    _usage(panels[1][0], evaluation, times, "memory")
    _messages(panels[0][1], evaluation, times)
    _credit(panels[1][1], evaluation, times)
    panels[0][0].set(title="CPU by process", ylabel="percent of one core")
    panels[1][0].set(title="Memory by process", ylabel="MB", xlabel=_TIME)
    panels[0][1].set(title="Messages by status", ylabel="messages")
    panels[1][1].set(title="Credit of the workspace", ylabel="credits", xlabel=_TIME)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#EEEEEE")
        panel.set_axisbelow(True)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        for moment in filter(lambda one: one is not None, (0.0, evaluation.seconds)):
            panel.axvline(moment, color="#BBBBBB", linewidth=0.8, linestyle=":")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(_title(evaluation), fontsize=12)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _title(evaluation: Evaluation) -> str:
    title = f"{evaluation.name}: {evaluation.contacts:,} contacts"
    if not evaluation.seconds:
        return title
    return f"{title} in {evaluation.seconds:.1f} s, {evaluation.contacts / evaluation.seconds:,.0f} messages/s"


def _usage(panel: Any, evaluation: Evaluation, times: list[float], resource: str) -> None:
    for name in evaluation.names:
        values = [getattr(sample.processes.get(name), resource, float("nan")) for sample in evaluation.samples]
        style = "--" if name in _DASHED else "-"
        panel.plot(times, values, color=_PROCESSES[name], linestyle=style, linewidth=1.5, label=name)
    panel.set_ylim(bottom=0)


def _messages(panel: Any, evaluation: Evaluation, times: list[float]) -> None:
    """Stack the counts, whose sum is always the number of contacts; final statuses are at the bottom."""
    order = ("delivered", "undelivered", "failed", "sent", "queued")
    counts = [[sample.progress.contacts[status] for sample in evaluation.samples] for status in order]
    panel.stackplot(times, counts, colors=[_STATUSES[status] for status in order], labels=order)
    panel.legend(**_LEGEND_RIGHT)


def _credit(panel: Any, evaluation: Evaluation, times: list[float]) -> None:
    """Draw the credit and its available part; the area between them is reserved."""
    credit = [float(sample.progress.credit) for sample in evaluation.samples]
    available = [float(sample.progress.credit - sample.progress.reserved) for sample in evaluation.samples]
    panel.fill_between(times, available, credit, step="post", color="#F5DFB3", label="reserved")
    panel.step(times, available, where="post", color="#E69F00", linewidth=1.5, label="available")
    panel.step(times, credit, where="post", color="#0072B2", linewidth=1.5, label="credit")
    panel.legend(**_LEGEND_RIGHT)
