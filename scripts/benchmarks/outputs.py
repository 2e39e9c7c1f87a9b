"""Where benchmarks put their results: the options for it that every script takes, and the writing."""

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["add_options", "write"]


def add_options(parser: argparse.ArgumentParser, *, work: bool = True) -> None:
    """--threads, --json and --markdown, and --work where weights and bundles can be kept."""
    parser.add_argument("--threads", type=int, default=2, help="of every engine (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    if work:
        parser.add_argument(
            "--work", type=Path, metavar="FOLDER", help="keep weights and bundles there for the next run"
        )


def write(options: argparse.Namespace, results: dict[str, Any], text: str) -> None:
    """The numbers and the tables, to the files that the options name."""
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
