"""The promised limits, and their verdicts: medians of ratios within a round."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PAIRS", "Results", "verdicts"]

PAIRS = {
    "LatentRT onnxruntime float32": "onnxruntime float32",
    "LatentRT openvino float32": "openvino float32",
    "LatentRT openvino bfloat16": "openvino bfloat16",
}
_MOST_OVER_RAW, _MOST_HOST = 1.03, 0.05
_LEAST_SHARE = {"float32": 0.85, "bfloat16": 0.65}
_OURS_32 = ("LatentRT openvino float32", "LatentRT onnxruntime float32")
_OURS_16 = ("LatentRT openvino bfloat16",)
# (case, least ratio of times, our contenders, of which the fastest counts, peer)
_SPEED: tuple[tuple[str, float, tuple[str, ...], str], ...] = (
    ("quarter-decode", 5.0, (*_OURS_16, *_OURS_32), "diffusers tiled float32"),
    ("quarter-decode", 2.4, (*_OURS_16, *_OURS_32), "diffusers float32"),
    ("quarter-decode", 1.4, _OURS_32, "diffusers float32"),
    ("quarter-decode", 1.2, _OURS_16, "diffusers bfloat16"),
    ("full-decode", 2.4, (*_OURS_16, *_OURS_32), "diffusers float32"),
    ("full-decode", 1.4, _OURS_32, "diffusers float32"),
    ("full-decode", 1.2, _OURS_16, "diffusers bfloat16"),
    ("quarter-encode", 1.4, _OURS_32, "diffusers float32"),
    ("sd-decode", 1.2, _OURS_32, "diffusers float32"),
    ("sd-decode", 2.3, _OURS_16, "diffusers float32"),
)
_QUALITY: tuple[tuple[str, float, str], ...] = (("sd-decode", 45.0, "LatentRT openvino bfloat16"),)


@dataclass(frozen=True)
class Results:
    """The measurements.

    Attributes:
        runs: rows of `measure` with case, contender and round.
        rates: rows of `matrix_rates` with case and round.
        work: floating-point operations of each case.
        turns: rows of `measure_turns` with case, ours and raw.
    """

    runs: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    work: dict[str, float]
    turns: Sequence[dict[str, Any]] = ()

    def of(self, case: str, contender: str) -> dict[int, dict[str, Any]]:
        """Return the successful rows of a contender, by round."""
        return {
            row["round"]: row
            for row in self.runs
            if (row["case"], row["contender"], row["status"]) == (case, contender, "ok")
        }

    def ratio(self, case: str, slower: str, faster: str) -> float | None:
        """Return the seconds of one contender over another's: the median over their common rounds."""
        left, right = self.of(case, slower), self.of(case, faster)
        ratios = [left[round_]["seconds"] / right[round_]["seconds"] for round_ in left.keys() & right.keys()]
        return statistics.median(ratios) if ratios else None

    def over_raw(self, case: str, ours: str) -> float | None:
        """Return our seconds over the raw engine's: the median of their turns in one process."""
        rows = [row for row in self.turns if (row["case"], row["ours"], row["status"]) == (case, ours, "ok")]
        ratios = [ratio for row in rows for ratio in row["ratios"]]
        return statistics.median(ratios) if ratios else None

    def rate_share(self, case: str, contender: str, library: str = "openvino") -> float | None:
        """Return operations per second as a share of the library's matrix rate in the same round and precision."""
        dtype = contender.split()[-1]
        rates = {row["round"]: row[f"{library} {dtype}"] for row in self.rates if row["case"] == case}
        shares = [
            self.work[case] / row["seconds"] / rates[round_]
            for round_, row in self.of(case, contender).items()
            if round_ in rates
        ]
        return statistics.median(shares) if shares else None


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Return each limit whose contenders ran, with the measured value and whether the limit is met.

    A contender of ours that never ran is a missed limit.
    """
    return [*_failures(results), *_verdicts(results)]


def _failures(results: Results) -> Iterator[dict[str, Any]]:
    ours = [row for row in results.runs if row["contender"].startswith("LatentRT") and row["status"] == "failed"]
    for case, name in dict.fromkeys((row["case"], row["contender"]) for row in ours):
        if not results.of(case, name):
            yield from _judged(f"{case}: {name}, rounds that ran", 0, 1)


def _verdicts(results: Results) -> Iterator[dict[str, Any]]:
    cases = list(dict.fromkeys(row["case"] for row in results.runs))
    for case in cases:
        for ours, raw in PAIRS.items():
            over = results.over_raw(case, ours)
            yield from _judged(f"{case}: {ours}, its time over {raw}'s", over, _MOST_OVER_RAW, at_least=False)
        if case in ("quarter-decode", "full-decode"):
            for dtype, least in _LEAST_SHARE.items():
                share = results.rate_share(case, f"LatentRT openvino {dtype}")
                yield from _judged(f"{case}: share of the matrix rate, {dtype}", share, least)
    for case, least, names, peer in _SPEED:
        times = [ratio for name in names if (ratio := results.ratio(case, peer, name)) is not None]
        named = "best precision" if len(names) > 2 else names[0].split()[-1]
        yield from _judged(f"{case}: times as fast as {peer}, {named}", max(times, default=None), least)
    for case, least, name in _QUALITY:
        decibels = [row["psnr_db"] for row in results.of(case, name).values()]
        yield from _judged(f"{case}: {name}, PSNR in dB", min(decibels, default=None), least)
    for case, name in dict.fromkeys((row["case"], row["contender"]) for row in results.runs):
        shares = [row["host_share"] for row in results.of(case, name).values() if row["host_share"] is not None]
        share = statistics.median(shares) if shares else None
        yield from _judged(f"{case}: {name}, share of the host", share, _MOST_HOST, at_least=False)


def _judged(promise: str, seen: float | None, wanted: float, *, at_least: bool = True) -> Iterator[dict[str, Any]]:
    if seen is not None:
        met = seen >= wanted if at_least else seen <= wanted
        yield {"promise": promise, "seen": seen, "wanted": wanted, "at_least": at_least, "passed": met}
