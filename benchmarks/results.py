"""Results of the benchmarks: medians with their spread, as JSON, as a Markdown table, as a plot."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.settings import ROOT
from local.readme import replace_section

FOLDER = Path(__file__).parent


def summary(name: str, values: Sequence[float], **others: Any) -> dict[str, Any]:
    """The median under `name`, with the minimum, the maximum and the number of values."""
    return {
        name: _short(statistics.median(values)),
        "min": _short(min(values)),
        "max": _short(max(values)),
        "rounds": len(values),
        **others,
    }


def _short(value: float) -> float:
    """Round to three or four significant digits."""
    return round(value) if value >= 100 else round(value, 2 if value >= 1 else 4)


def write(results: dict[str, Any]) -> None:
    """Write `results.json`, the plot, and the table in the README."""
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(results, FOLDER / "results.png")
    replace_section(ROOT / "README.md", "benchmarks", table(results))
    replace_section(FOLDER / "README.md", "cpu", _cpu_table(results))


def table(results: dict[str, Any]) -> str:
    """The Markdown table of the README."""
    seed = results["seed_design"]["messages_per_s"]
    floor = results["floor"]["messages_per_s"]
    ceiling = results["callback_ceiling"]["requests_per_s"]
    single, arrays = results["end_to_end"]["single"], results["end_to_end"]["arrays"]
    callbacks, credit, create = results["callbacks"], results["credit"], results["create"]

    def spread(one: dict[str, Any], name: str, unit: str) -> str:
        return f"**{one[name]:,}** {unit} ({one['min']:,} to {one['max']:,})"

    def ratios(one: dict[str, Any]) -> str:
        rate = one["messages_per_s"]
        return f"{rate / seed:.0f}x the naive design, {rate / floor:.0%} of the floor"

    rows = [
        ("a campaign, one HTTP callback per report", spread(single, "messages_per_s", "messages/s"),
         f"{ratios(single)}, {2 * single['messages_per_s'] / ceiling:.0%} of the ceiling (two reports a message)"),
        ("a campaign, reports in arrays", spread(arrays, "messages_per_s", "messages/s"), ratios(arrays)),
        ("the naive design", spread(results["seed_design"], "messages_per_s", "messages/s"),
         "a job, a SELECT and an UPDATE for each status"),
        ("the floor", spread(results["floor"], "messages_per_s", "messages/s"), "PostgreSQL alone, large batches"),
        ("the callback ceiling", spread(results["callback_ceiling"], "requests_per_s", "requests/s"),
         "the same server, no database"),
        ("`POST /create`", spread(create, "contacts_per_s", "contacts/s"),
         f"{create['contacts']:,} contacts in one upload, salesapi at most {create['peak_rss_mb']:.0f} MB"),
        ("`POST /callback`, committed", spread(callbacks["max"], "reports_per_s", "reports/s"),
         f"arrays: {callbacks['arrays']['reports_per_s']:,} reports/s"),
        ("`POST /callback` at 80% of that", spread(callbacks["single"], "p99_ms", "ms (p99)"),
         f"half within {callbacks['single']['p50_ms']} ms"),
        ("charge to WebSocket", spread(credit, "p99_ms", "ms (p99)"),
         f"{credit['clients']:,} clients during a campaign, half within {credit['p50_ms']} ms"),
    ]  # fmt: skip
    lines = ["| what | median (least to most) | |", "|---|---|---|"]
    lines += [f"| {what} | {value} | {note} |" for what, value, note in rows]
    machine = results["machine"]
    return (
        "\n".join(lines) + "\n\n"
        f"{machine['cores']} cores, {machine['python']}, {results['contacts']:,} contacts, {single['rounds']} rounds; "
        f"everything on one machine, the carrier too; fsync and synchronous_commit on.\n"
    )


def _cpu_table(results: dict[str, Any]) -> str:
    """CPU microseconds per message by process, the largest first."""
    cpu = results["cpu_seconds_per_1000_messages"]
    names = sorted(cpu["single"], key=lambda name: -cpu["single"][name])
    lines = ["| process | single callbacks | arrays |", "|---|---|---|"]
    lines += [f"| {name} | {cpu['single'][name] * 1000:.1f} | {cpu['arrays'][name] * 1000:.1f} |" for name in names]
    totals = [sum(cpu[mode].values()) * 1000 for mode in ("single", "arrays")]
    return "\n".join([*lines, f"| **all** | **{totals[0]:.1f}** | **{totals[1]:.1f}** |"]) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Plot messages per second of each design, and CPU by process."""
    import matplotlib  # takes a second to import

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (rates, shares) = pyplot.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    bars = {
        "naive design": results["seed_design"],
        "single callbacks": results["end_to_end"]["single"],
        "arrays": results["end_to_end"]["arrays"],
        "floor (PostgreSQL)": results["floor"],
    }
    values = [bar["messages_per_s"] for bar in bars.values()]
    errors = [
        [value - bar["min"] for value, bar in zip(values, bars.values(), strict=True)],
        [bar["max"] - value for value, bar in zip(values, bars.values(), strict=True)],
    ]
    drawn = rates.barh(list(bars), values, xerr=errors, color=["#999999", "#0072B2", "#56B4E9", "#DDDDDD"], capsize=3)
    rates.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=6)
    rates.set(xscale="log", xlabel="messages a second (log scale)", title="From POST /run to the last final row")
    rates.set_xlim(right=max(values) * 5)
    rates.invert_yaxis()

    cpu = results["cpu_seconds_per_1000_messages"]
    names = sorted(cpu["single"], key=lambda name: -cpu["single"][name])
    left = {"single": 0.0, "arrays": 0.0}
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999", "#000000"]
    for name, colour in zip(names, colours, strict=False):
        widths = [cpu[mode].get(name, 0.0) * 1000 for mode in left]
        shares.barh(["single callbacks", "arrays"], widths, left=list(left.values()), color=colour, label=name)
        left = {mode: left[mode] + width for mode, width in zip(left, widths, strict=True)}
    shares.set(xlabel="CPU, microseconds a message", title="Who uses the CPU")
    shares.invert_yaxis()
    shares.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for panel in (rates, shares):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
