"""The report as Markdown."""

from typing import Any

__all__ = ["markdown"]


def markdown(report: dict[str, Any]) -> str:
    """Machine, decodes, and what failed or was left out."""
    machine = report["machine"]
    rates = ", ".join(f"{dtype} {rate:.1f}" for dtype, rate in (machine.get("matrix_tflops") or {}).items())
    heading = (
        f"{machine.get('device', 'unknown device')}, measured matrix rate in TFLOP/s: {rates or 'not measured'}. "
        f"{report['seconds']:.0f} s for everything. Weights are random."
    )
    lines = [
        heading,
        "",
        "| decode | by | seconds | share of the matrix rate | PSNR dB | memory GiB | first call s | open s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(row) for row in report["decodes"] if row["status"] == "ok"]
    if report["clips"]:
        lines += ["", "| clip | by | first frame s | MP4 s |", "|---|---|---|---|"]
        lines += [
            f"| {row['case']} | {row['by']} | {row['first_frame_seconds']:.3f} | {row['clip_seconds']:.3f} |"
            for row in report["clips"]
            if row["status"] == "ok"
        ]
    if report["features"]:
        lines += ["", "| decode | by | what | seconds | first frame s | PSNR dB |", "|---|---|---|---|---|---|"]
        lines += [_feature(row) for row in report["features"] if row["status"] == "ok"]
    parts = ("steps", "decodes", "clips", "features")
    missing = [row for part in parts for row in report[part] if row["status"] != "ok"]
    if missing:
        lines += ["", "Not measured:", ""]
        lines += [f"- {row['case']}, {row['by']}: {row['status']}, {row['reason']}" for row in missing]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    share = "-" if row["share_of_matrix_rate"] is None else f"{100 * row['share_of_matrix_rate']:.0f} %"
    memory = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
    return (
        f"| {row['case']} | {row['by']} | {row['seconds']:.4f} | {share} | {row['psnr_db']:.1f} | {memory} "
        f"| {row['first_seconds']:.2f} | {row['open_seconds']:.2f} |"
    )


def _feature(row: dict[str, Any]) -> str:
    first = "-" if row["first_frame_seconds"] is None else f"{row['first_frame_seconds']:.4f}"
    return f"| {row['case']} | {row['by']} | {row['what']} | {row['seconds']:.4f} | {first} | {row['psnr_db']:.1f} |"
