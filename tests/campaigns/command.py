"""The command `scripts/campaign`."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .campaign import Campaign, Settings, run_campaign
from .campaigns import CAMPAIGNS
from .material import make_material

__all__ = ["main"]

_MINUTES = 10.0  # if neither --minutes nor --cases is given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign. Returns the exit code: 0 without a fault, 1 with one, 130 after Ctrl-C, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    campaign = CAMPAIGNS[options.campaign]
    if options.list:
        _say("\n".join(campaign.groups()))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children, and prints the summary so far
    with tempfile.TemporaryDirectory(prefix="latentrt-campaign-", ignore_cleanup_errors=True) as temporary:
        work = (options.work or Path(temporary)).absolute()
        return _run(campaign, options, work, parser)


def _run(campaign: Campaign, options: argparse.Namespace, work: Path, parser: argparse.ArgumentParser) -> int:
    minutes = options.minutes
    if minutes is None and options.cases is None and options.case is None:
        minutes = _MINUTES
    settings = Settings(
        work,
        seed=options.seed,
        minutes=minutes,
        cases=options.cases,
        only=tuple(options.only),
        case=options.case,
        keep=options.keep,
        **({} if options.workers is None else {"workers": options.workers}),
    )
    make_material(work)
    try:
        summary = run_campaign(campaign, settings)
    except ValueError as error:
        parser.error(str(error))
    _say(summary.text())
    if options.case is not None:
        for fault in summary.faults.values():
            _say(f"\n{fault.group} {fault.numbers[0]}: {fault.kind}\n{fault.detail}")
    if options.json is not None:
        options.json.write_text(json.dumps(summary.to_json(), indent=1) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(summary.markdown(_command(options, minutes)), encoding="utf-8")
    if summary.fault_count or summary.broken is not None:
        return 1
    return 130 if summary.interrupted else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _command(options: argparse.Namespace, minutes: float | None) -> str:
    """The command line without the options that say where results go."""
    words = ["scripts/campaign", options.campaign]
    for name, value in (("minutes", minutes), ("cases", options.cases), ("case", options.case), ("seed", options.seed)):
        if value is not None:
            words += [f"--{name}", f"{value:g}"]
    for group in options.only:
        words += ["--only", group]
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/campaign",
        description="Look for faults: damaged files, killed commands, load, cancelled calls, hostile files.",
        epilog="Example: scripts/campaign fuzz --only manifest --case 1234 --seed 0",
    )
    parser.add_argument("campaign", choices=sorted(CAMPAIGNS))
    parser.add_argument("--minutes", type=float, help=f"end after this time (default without --cases: {_MINUTES:g})")
    parser.add_argument("--cases", type=int, help="the number of cases of each group")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn at random (default: 0)")
    parser.add_argument("--only", action="append", default=[], metavar="GROUP", help="only this group; repeatable")
    parser.add_argument("--case", type=int, help="only this case of each group, with the whole trace of its fault")
    parser.add_argument("--workers", type=int, help="cases that run at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the summary as Markdown")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of failing cases here")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="use and keep this folder for the demo models")
    parser.add_argument("--list", action="store_true", help="list the groups of the campaign")
    return parser


if __name__ == "__main__":
    sys.exit(main())
