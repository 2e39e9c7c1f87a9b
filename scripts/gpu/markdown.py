"""The report as Markdown: tables of measurements and promises, and the missing measurements with their reasons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .promises import Promise

__all__ = ["markdown"]

Row = Mapping[str, Any]
_OUTPUTS = ("on the device", "on the host", "uint8")
_CALLS = (
    "Seconds of a call whose result stays on the device, or comes to the host as float32 or as pixels. The share of "
    "the matrix rate is that of the first kind of call."
)
_KNOWN = ("part", "case", "by", "status", "least", "most", "reason", "trace", "says")
_MACHINE = ("compute_capability", "memory_gib", "driver", "cuda", "cudnn", "python", "system")


def markdown(
    machine: Row, rows: Sequence[Row], promises: Iterable[Promise], complaints: Sequence[str], seconds: float
) -> str:
    lines = [*_heading(machine, seconds), ""]
    lines += _calls("decode", rows) + _calls("encode", rows)
    lines += _others(rows)
    lines += ["## What is promised", "", "| promise | measured | not measured |", "|---|---|---|"]
    lines += [_promise(one, rows) for one in promises]
    if complaints:
        lines += ["", "## Not as it should be", "", *(f"- {line}" for line in complaints)]
    lines += _missing(rows)
    return "\n".join(lines) + "\n"


def _heading(machine: Row, seconds: float) -> Iterator[str]:
    rates = ", ".join(f"{dtype} {rate:.1f}" for dtype, rate in (machine.get("matrix_tflops") or {}).items())
    copies = ", ".join(f"{where} {rate:.1f}" for where, rate in (machine.get("copy_gb_per_second") or {}).items())
    known = ", ".join(f"{name.replace('_', ' ')} {machine[name]}" for name in _MACHINE if machine.get(name) is not None)
    packages = ", ".join(f"{name} {version}" for name, version in (machine.get("packages") or {}).items())
    yield f"# {machine.get('device', 'unknown device')}"
    yield ""
    yield f"{known}. {packages}."
    yield ""
    yield (
        f"Measured matrix rate in TFLOP/s: {rates or 'not measured'}. Copies to the host in GB/s, by where to: "
        f"{copies or 'not measured'}. Everything took {seconds:.0f} s. Weights are random."
    )


def _calls(does: str, rows: Sequence[Row]) -> list[str]:
    """Return a line for each contender of a case, with the seconds for each place of the result."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        kind, _, output = row["part"].partition(", ")
        if kind == does and row["status"] == "ok":
            found.setdefault((row["case"], row["by"]), {})[output] = row
    if not found:
        return []
    lines = [
        f"## {does.capitalize()}s",
        "",
        _CALLS,
        "",
        "| case | by | device s | host s | uint8 s | share | PSNR dB | memory | first call s | open s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (case, by), of in found.items():
        seconds = [_formatted("seconds", of.get(output, {}).get("seconds")) for output in _OUTPUTS]
        best = of.get("on the device") or of.get("on the host") or {}
        first = next((one for one in of.values() if "open_seconds" in one), {})
        names = ("psnr_db", "peak_bytes", "first_seconds", "open_seconds")
        cells = [_formatted(name, (first or best).get(name)) for name in names]
        share = _formatted("share", best.get("share_of_matrix_rate"))
        lines.append(f"| {case} | {by} | {' | '.join([*seconds, share, *cells])} |")
    return [*lines, ""]


def _others(rows: Sequence[Row]) -> list[str]:
    lines = ["## Other measurements", "", "| case | by | what | measured |", "|---|---|---|---|"]
    for row in rows:
        measured = [name for name in row if name not in _KNOWN and not isinstance(row[name], dict | list)]
        calls = row["part"].partition(", ")[2] in _OUTPUTS and row["part"].startswith(("decode", "encode"))
        if row["status"] != "ok" or calls or row["part"] in ("machine", "backends"):
            continue
        units = {name: " s" if name.endswith("seconds") else "" for name in measured}
        texts = [
            f"{_words(name)} {_formatted(name, row[name])}{units[name]}" for name in measured if row[name] is not None
        ]
        texts += [f"“{row['says']}”"] if "says" in row else []
        lines.append(f"| {row['case']} | {row['by']} | {row['part']} | {', '.join(texts) or 'yes'} |")
    return [*lines, ""]


def _promise(promise: Promise, rows: Sequence[Row]) -> str:
    done: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    for (part, model), of in promise.found(rows).items():
        (done if any(row["status"] == "ok" for row in of) else left).setdefault(part, []).append(model)
    cells = ("; ".join(f"{part} ({', '.join(models)})" for part, models in of.items()) for of in (done, left))
    return f"| {promise.text} | {' | '.join(cell or '-' for cell in cells)} |"


def _missing(rows: Sequence[Row]) -> list[str]:
    """Return the missing measurements, grouped by their reasons."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] != "ok":
            what = f"{row['case']}, {row['by']}, {row['part']}"
            reasons.setdefault(f"{row['status']}, {row['reason']}", []).append(what)
    if not reasons:
        return []
    lines = ["", "## Not measured", ""]
    for reason, left in reasons.items():
        lines += [f"- {reason}:", *(f"  - {one}" for one in left)]
    return lines


def _words(name: str) -> str:
    for unit in ("_seconds", "_bytes", "_db", "_share"):
        name = name.removesuffix(unit)
    return {"psnr": "PSNR", "seconds": "takes"}.get(name, name.replace("_", " "))


def _formatted(name: str, value: Any) -> str:
    """Format a value with its unit, which is the end of its name."""
    if value is None:
        return "-"
    if name.endswith("seconds"):
        return f"{value:.4f}" if name == "seconds" or value < 1 else f"{value:.2f}"
    if name.endswith("bytes"):
        return f"{value / 2**30:.2f} GiB" if value >= 2**28 else f"{value / 2**20:.1f} MiB"
    if name.endswith("db"):
        return f"{value:.1f} dB"
    if name.endswith("share"):
        return f"{100 * value:.0f} %"
    return str(value)
