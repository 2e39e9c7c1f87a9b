"""The common options of the bench scripts, and the files of their results."""

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["add_options", "write"]


def add_options(parser: argparse.ArgumentParser, *, work: bool = True) -> None:
    """Add --threads, --json and --markdown; with `work`, also --work for a folder that keeps weights and bundles."""
    parser.add_argument("--threads", type=int, default=2, help="number of threads of each engine (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    if work:
        parser.add_argument(
            "--work", type=Path, metavar="FOLDER", help="keep weights and bundles there for the next run"
        )


def write(options: argparse.Namespace, results: dict[str, Any], text: str) -> None:
    """Write numbers and tables to the files that the options name."""
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
