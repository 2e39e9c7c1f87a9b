"""Results as Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.report import machine, table

from .cases import PeerCase
from .limits import Results

__all__ = ["markdown", "row_text", "turns_text"]

_REFERENCE = "diffusers float32"
_METHOD = """Each row is a process of its own, which opens, warms up (eager PyTorch on a few frames), and then times up
to five calls, or a single long one. The contenders take turns, round by round. 'Times as fast' is the median of the
ratios within a round. Seconds are medians over the rounds; do not compare them on a machine whose speed changes. PSNR
is against the first row, with its range as the peak. 'Matrix rate' is the rate of the model's convolutions and products
as a share of the rate of a product of two 2048 x 2048 matrices in OpenVINO, in the same round and precision. 'Host' is
the share of time outside of engine calls. The raw engines run the bundle's whole graph; OpenVINO compiles it for the
size of the input. Our time over the raw engine's is measured 'in turns', with both in one process and each first in
every other turn, since the same call differed by a fifth between two processes."""


def markdown(values: dict[str, Any], cases: Sequence[PeerCase]) -> str:
    """Return all measurements and promises as Markdown."""
    results = Results(values["runs"], values["rates"], values["work"], values["turns"])
    parts = ["# LatentRT and its peers", f"`{values['command']}`, {values['minutes']:.0f} minutes.", machine(values)]
    parts += [_METHOD, "## What is promised", table(_promises(values["promises"]))]
    for case in cases:
        if any(row["case"] == case.name for row in results.runs):
            parts += [f"## {case.title}", _work(results, case), table(_rows(results, case))]
            parts += ["\n".join(f"- {text}" for text in (*_turns(results, case), *_absent(results, case)))]
    return "\n\n".join(parts) + "\n"


def row_text(row: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    host = "" if row["host_share"] is None else f", host {100 * row['host_share']:.1f} %"
    return f"{row['seconds']:.3f} s, {row['peak_gib']:.2f} GiB, {row['psnr_db']:.1f} dB{host}"


def turns_text(row: dict[str, Any]) -> str:
    """Return the ratios of our times to the raw engine's as one line of text."""
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    ratios = row["ratios"]
    return f"{statistics.median(ratios):.3f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def _turns(results: Results, case: PeerCase) -> Iterable[str]:
    for row in results.turns:
        if row["case"] == case.name:
            yield f"in turns, {row['ours']} over {row['raw']}: {turns_text(row)}"


def _promises(rows: list[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ("promise", "seen", "wanted", "")
    for row in rows:
        wanted = f"at {'least' if row['at_least'] else 'most'} {row['wanted']:g}"
        yield (row["promise"], f"{row['seen']:.3g}", wanted, "met" if row["passed"] else "MISSED")


def _work(results: Results, case: PeerCase) -> str:
    names = [key for key in results.rates[0] if key not in ("case", "round")] if results.rates else []
    own = [row for row in results.rates if row["case"] == case.name]
    rates = ", ".join(f"{name} {statistics.median(row[name] for row in own) / 1e9:.0f}" for name in names if own)
    return f"{results.work[case.name] / 1e9:.0f} GFLOP a call; matrix rates in GFLOP/s: {rates}."


def _rows(results: Results, case: PeerCase) -> Iterable[Sequence[str]]:
    yield ("contender", "rounds", "seconds", "times as fast", "matrix rate", "host", "ready s", "peak GiB", "PSNR dB")
    for name in dict.fromkeys(row["contender"] for row in results.runs if row["case"] == case.name):
        rows = list(results.of(case.name, name).values())
        if not rows:
            continue
        faster = results.ratio(case.name, _REFERENCE, name)
        share = results.rate_share(case.name, name)
        host = rows[0]["host_share"]
        yield (
            name,
            str(len(rows)),
            f"{_median(rows, 'seconds'):.3f}",
            "-" if faster is None else f"{faster:.2f}",
            "-" if share is None else f"{100 * share:.0f} %",
            "-" if host is None else f"{100 * _median(rows, 'host_share'):.1f} %",
            f"{_median(rows, 'ready_seconds'):.1f}",
            f"{_median(rows, 'peak_gib'):.2f}",
            f"{rows[0]['psnr_db']:.1f}",
        )


def _absent(results: Results, case: PeerCase) -> Iterable[str]:
    for row in results.runs:
        if row["case"] == case.name and row["status"] != "ok" and row["round"] == 0:
            yield f"{row['contender']}: {row['status']}, {row['reason']}"


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))
