"""A standard output that is full, closed or no longer read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LATENTRT

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

COMMAND = " ".join(f"'{part}'" for part in LATENTRT)


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", ["inspect {}", "inspect {} --json", "--help", "--version", "doctor"])
def test_a_full_standard_output_is_one_sentence(arguments: str, bundle_of: Callable[[str], Path]) -> None:
    done = shell(f"{COMMAND} {arguments.format(bundle_of('sd'))} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: cannot write standard output: the disk is full, so free some space or choose another folder\n"
    )


@pytest.mark.parametrize("arguments", ["inspect {}", "inspect {} --json", "--help"])
def test_a_closed_standard_output_is_one_sentence(arguments: str, bundle_of: Callable[[str], Path]) -> None:
    done = shell(f"{COMMAND} {arguments.format(bundle_of('sd'))} >&-")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write standard output (Bad file descriptor): ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_ends_early_is_no_error_to_report(bundle_of: Callable[[str], Path]) -> None:
    done = shell(f"for i in 1 2 3; do {COMMAND} inspect {bundle_of('sd')} --json; done | head -c 5")
    assert done.stderr == ""


def test_a_closed_standard_error_hides_messages_and_nothing_else(bundle_of: Callable[[str], Path]) -> None:
    done = shell(f"{COMMAND} inspect /nowhere 2>&-; echo $?; {COMMAND} inspect {bundle_of('sd')} 2>&- <&- | wc -c")
    code, count = done.stdout.split()
    assert code == "1"
    assert int(count) > 100


def test_a_full_standard_error_changes_no_exit_code() -> None:
    assert shell(f"{COMMAND} inspect /nowhere 2> /dev/full").returncode == 1


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = "from latentrt.cli.standard_streams import prepare_streams; prepare_streams()\n"
    code += "import os, sys; number = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(2, b'warning')\n"
    code += "os._exit(number)"
    line = f'"{sys.executable}" -c "$0" "$1" <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", line, code, str(tmp_path / "clip")], check=False)
    assert done.returncode > 2
    assert (tmp_path / "clip").stat().st_size == 0
