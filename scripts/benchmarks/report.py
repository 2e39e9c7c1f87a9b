"""Results as Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["machine", "markdown", "table"]


def markdown(results: dict[str, Any]) -> str:
    """Return all measured parts of the results as Markdown."""
    parts = [machine(results)]
    for name, title, rows in (
        ("speed", "Speed", _speed),
        ("overhead", "Overhead of our runtime", _overhead),
        ("export", "Export of encoder and decoder", _export),
        ("build", "Build of the decoder's engine", _build),
    ):
        if name in results:
            parts += [f"## {title}", table(rows(results[name]))]
    for profile in results.get("profile", ()):
        parts += [
            f"## {profile['model']} {profile['component']}, {_shape(profile['shape'])}",
            table(_profile(profile)),
        ]
    return "\n\n".join(parts) + "\n"


def machine(results: dict[str, Any]) -> str:
    """Return a description of the machine, in a few sentences."""
    described = results["machine"]
    before, after = described["load_average"][0], results["load_average_after"][0]
    versions = ", ".join(f"{name} {described[name]}" for name in ("onnxruntime", "torch", "diffusers", "onnx"))
    return (
        f"{described['cpu']}, {described['cores']} cores, {described['memory_gib']} GiB, {described['system']}; "
        f"load average {before} before and {after} after. Python {described['python']}, {versions}. "
        f"{results['threads']} threads, float32, random weights."
    )


def _speed(cases: list[dict[str, Any]]) -> Iterable[Sequence[str]]:
    engines = ("diffusers", "latentrt", "onnxruntime")
    yield (
        "case",
        "input",
        *engines,
        "times as fast as diffusers",
        "wanted",
        "in CPU time",
        "as fast as onnxruntime",
        "error",
        "",
    )
    for case in cases:
        seconds, ratio = case["seconds"], case["times_as_fast"]
        yield (
            f"{case['model']} {case['component']}",
            _shape(case["shape"]),
            *(f"{seconds[name]['median']:.3f} s" for name in engines),
            _spread(ratio["diffusers"]),
            f"{case['wanted']:g}" if case["wanted"] else "-",
            f"{case['times_as_fast_cpu']['diffusers']['median']:.2f}",
            _spread(ratio["onnxruntime"]),
            f"{case['relative_error']:.0e}",
            _verdict(case),
        )


def _overhead(row: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ("one decode of a narrow model", "milliseconds")
    yield ("open_bundle(...).decode", f"{row['latentrt_ms']:.3f}")
    yield ("plain session", f"{row['onnxruntime_ms']:.3f}")
    yield ("difference", f"{row['overhead_ms']:.3f}")


def _export(rows: list[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield ("model", "seconds", "wanted", "peak memory", "wanted", "bundle", "")
    for row in rows:
        yield (
            row["model"],
            f"{row['seconds']:.1f}",
            f"under {row['wanted_seconds']:g}",
            f"{row['peak_gib']:.2f} GiB",
            f"under {row['wanted_gib']:g} GiB" if row["wanted_gib"] else "-",
            f"{row['bundle_gib']:.2f} GiB",
            _verdict(row),
        )


def _build(rows: list[dict[str, Any]]) -> Iterable[Sequence[str]]:
    yield (
        "model",
        "precision",
        "library",
        "for",
        "seconds",
        "wanted",
        "peak memory",
        "wanted",
        "engine",
        "activations",
        "",
    )
    for row in rows:
        yield (
            row["model"],
            row["dtype"],
            row["library"],
            ", ".join(row["compute_capabilities"]),
            f"{row['seconds']:.1f} (parse {row['parse_seconds']:.1f}, build {row['build_seconds']:.1f})",
            f"under {row['wanted_seconds']:g}",
            f"{row['peak_gib']:.2f} GiB",
            f"under {row['wanted_gib']:g} GiB",
            f"{row['engine_gib']:.2f} GiB",
            f"{row['activation_gib']:.2f} GiB",
            _verdict(row),
        )


def _profile(profile: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield ("operator", "calls", "milliseconds", "share")
    for row in profile["operators"]:
        yield (row["operator"], str(row["calls"]), f"{row['ms']:.1f}", f"{row['percent']:.1f} %")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _spread(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


def _verdict(row: dict[str, Any]) -> str:
    return "ok" if row["passed"] else "MISSED"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. The first row is its head."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width for width in widths]
    padded = (
        [text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in [cells[0], rule, *cells[1:]]
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
