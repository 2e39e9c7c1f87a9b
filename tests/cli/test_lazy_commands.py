"""The list of commands, the version and completion import no command, and the table of commands is right."""

import ast
import os
import subprocess
import sys

import click
import pytest
from command_line import LATENTRT, invoke

from latentrt.cli.command_table import COMMANDS
from latentrt.cli.main import cli

REPORT = """
import atexit, sys
atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr))
sys.argv = ["latentrt", *sys.argv[1:]]
from latentrt.cli.main import main
main()
"""


def completing(words: str) -> dict[str, str]:
    """The environment in which bash completes the last word."""
    return {"_LATENTRT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}


def modules_after(*arguments: str, environment: dict[str, str] | None = None) -> tuple[str, set[str]]:
    """What the command prints in a fresh process, and the modules that it imports."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | (environment or {}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(ast.literal_eval(done.stderr.splitlines()[-1]))


def imported_commands(modules: set[str]) -> set[str]:
    """The modules of commands among them."""
    return {f"latentrt.cli.{entry.module}" for entry in COMMANDS.values()} & modules


@pytest.mark.parametrize(
    ("arguments", "environment", "printed"),
    [
        (["--version"], None, "latentrt, version"),
        (["--help"], None, "Decode the file LATENTS with BUNDLE."),
        ([], completing("latentrt "), "plain,decode\n"),
        ([], completing("latentrt dec"), "plain,decode\n"),
        ([], completing("latentrt --ver"), "plain,--version\n"),
    ],
)
def test_listing_and_completing_commands_import_neither_numpy_nor_a_command(
    arguments: list[str], environment: dict[str, str] | None, printed: str
) -> None:
    text, modules = modules_after(*arguments, environment=environment)
    assert printed in text
    assert "numpy" not in modules
    assert imported_commands(modules) == set()


def test_printing_the_script_of_a_shell_imports_no_numpy() -> None:
    _, modules = modules_after("completion", "zsh")
    assert "numpy" not in modules
    assert imported_commands(modules) == {"latentrt.cli.completion"}


def test_completing_the_options_of_a_command_imports_that_command_alone() -> None:
    text, modules = modules_after(environment=completing("latentrt decode --str"))
    assert text.split() == ["plain,--stream", "plain,--strips", "plain,--strip"]
    assert imported_commands(modules) == {"latentrt.cli.decode"}


def test_the_table_names_each_command_with_the_first_sentence_of_its_help() -> None:
    context = click.Context(cli)
    assert cli.list_commands(context) == list(COMMANDS)
    for name, entry in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(limit=1000) == entry.line


def test_the_list_of_commands_has_one_line_for_each() -> None:
    text = invoke("--help").output
    assert len(text.split("Commands:\n")[1].splitlines()) == len(COMMANDS)


def test_an_unknown_command_is_wrong_usage() -> None:
    result = invoke("decod")
    assert result.exit_code == 2
    assert "No such command 'decod'" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_says_how_to_install_it_and_asks_latentrt(shell: str) -> None:
    lines = invoke("completion", shell).output.splitlines()
    assert lines[0].startswith("# To install: ")
    assert f"latentrt completion {shell}" in lines[0]
    assert any(f"_LATENTRT_COMPLETE={shell}_complete" in line for line in lines)


def test_the_script_for_bash_needs_no_bash() -> None:
    command = [*LATENTRT, "completion", "bash"]
    environment = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete -o nosort -F _latentrt_completion latentrt" in done.stdout


def test_a_shell_without_a_script_is_wrong_usage() -> None:
    assert invoke("completion", "tcsh").exit_code == 2
