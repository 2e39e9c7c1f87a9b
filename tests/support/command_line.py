"""The command line, run by tests."""

import sys

from click.testing import CliRunner, Result

from latentrt.cli.main import cli

__all__ = ["LATENTRT", "invoke"]

LATENTRT = [sys.executable, "-c", "from latentrt.cli.start import main; main()"]
"""What the console script does, for a process of its own."""


def invoke(*arguments: object) -> Result:
    """Run a command in this process; an error of ours stays an exception."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
