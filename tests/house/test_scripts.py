"""The shell scripts, with a stand-in for Python and pip: what they install when, and what they say when they cannot."""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

INSTALLED = ("cpu", "export", "flax", "hub", "media", "openvino", "plot", "tensorrt-rtx")
COMMANDS = ["scripts/quickstart", "scripts/test", "scripts/check", ".ci/run"]
# Answers as an interpreter would: FAKE_TORCH, FAKE_INDEX and FAKE_PIP say whether torch can be imported, whether
# PyTorch's own index can be reached, and which pip commands fail. It notes the venv and pip commands in $FAKE_LOG;
# installing torch makes torch importable.
INTERPRETER = """#!/bin/sh
case "$*" in
    *"import sys, torch"*) [ -n "$FAKE_TORCH" ] || [ -f "$FAKE_LOG.torch" ] ;;
    *urllib*) [ -n "$FAKE_INDEX" ] ;;
    "-m venv"*)
        echo "$*" >>"$FAKE_LOG"
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        echo "version = 3.11" >.venv/pyvenv.cfg
        ;;
    "-m pip"*)
        echo "$*" >>"$FAKE_LOG"
        echo "what pip says"
        [ -z "$FAKE_PIP" ] || case "$*" in *$FAKE_PIP*) exit 1 ;; esac
        case "$*" in *torch==*) touch "$FAKE_LOG.torch" ;; esac
        ;;
    --version) echo "Python 3.11.0" ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout with nothing but what scripts/environment reads, and the interpreter above."""

    folder: Path

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def make(
        self, *groups: str, name: str = "test", torch: bool = False, index: bool = False, failing: str = ""
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            "PYTHON": str(self.folder / "python"),
            "FAKE_LOG": str(self.folder / "log"),
            "FAKE_TORCH": "yes" if torch else "",
            "FAKE_INDEX": "yes" if index else "",
            "FAKE_PIP": failing,  # pip fails when its arguments hold this
        }
        command = f"set -euo pipefail; . scripts/environment; make_environment {name} cpu {' '.join(groups)}"
        return bash("-c", command, cwd=self.folder, **variables)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "scripts").mkdir()
    for name in ("environment", "constraints.txt", "quickstart", "test", "check"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "python").write_text(INTERPRETER)
    (tmp_path / "python").chmod(0o755)
    return Checkout(tmp_path)


@pytest.mark.parametrize("command", [*COMMANDS, "scripts/environment", "scripts/test_versions"])
def test_a_script_is_valid_bash(command: str) -> None:
    assert bash("-n", str(ROOT / command)).stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_executable_and_says_which_shell_it_needs(command: str) -> None:
    assert os.access(ROOT / command, os.X_OK)
    assert (ROOT / command).read_text().startswith("#!/usr/bin/env bash\n")


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "scripts/quickstart" in readme
    assert "scripts/test" in readme


@pytest.mark.parametrize("command", ["scripts/quickstart", "scripts/test"])
@pytest.mark.parametrize("python", ["false", "/no/such/python3"])
def test_a_python_that_is_too_old_or_absent_is_one_line(command: str, python: str, checkout: Checkout) -> None:
    done = bash(command, cwd=checkout.folder, PYTHON=python)
    assert done.returncode == 1
    assert done.stderr == f"PYTHON={python} is not a Python 3.11 or newer that runs.\n"
    assert not (checkout.folder / ".venv").exists()


def test_a_machine_without_python_gets_one_line(checkout: Checkout) -> None:
    commands = checkout.folder / "commands"
    commands.mkdir()
    for name in ("bash", "dirname"):
        (commands / name).symlink_to(str(shutil.which(name)))
    done = bash("scripts/test", cwd=checkout.folder, PATH=str(commands), PYTHON="")
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or newer is needed and was not found")
    assert done.stderr.count("\n") == 1


def test_the_first_run_makes_the_environment_with_the_pinned_torch(checkout: Checkout) -> None:
    done = checkout.make("lint", "test")
    assert done.returncode == 0, done.stderr
    made, torch, pip, project = checkout.log
    assert made == "-m venv --clear .venv"
    assert torch.endswith(" torch==2.13.0")
    assert pip.endswith(" pip>=25.1")
    assert "--constraint" in project
    assert project.endswith(" --editable .[cpu] --group lint --group test")
    assert "what pip says" not in done.stdout + done.stderr


def test_torch_comes_from_its_own_index_where_that_answers(checkout: Checkout) -> None:
    assert checkout.make(index=True).returncode == 0
    _, torch, project = checkout.log
    assert torch.endswith(" --no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0")
    assert "index" not in project


def test_an_index_that_has_no_torch_for_this_machine_is_passed_over_quietly(checkout: Checkout) -> None:
    done = checkout.make(index=True, failing="--index-url")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--index-url" in checkout.log[1]
    assert "--index-url" not in checkout.log[2]
    assert checkout.log[2].endswith(" torch==2.13.0")


def test_a_torch_that_is_there_is_used(checkout: Checkout) -> None:
    assert checkout.make(torch=True).returncode == 0
    made, project = checkout.log
    assert "--system-site-packages" in made
    assert "torch" not in project
    assert "torch==" not in (checkout.folder / ".venv" / "constraints.txt").read_text()


def test_a_second_run_installs_nothing(checkout: Checkout) -> None:
    checkout.make("test")
    first = checkout.log
    done = checkout.make("test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.log == first


@pytest.mark.parametrize("changed", ["pyproject.toml", "scripts/constraints.txt"])
def test_a_changed_requirement_is_installed(changed: str, checkout: Checkout) -> None:
    checkout.make()
    before = len(checkout.log)
    with (checkout.folder / changed).open("a") as file:
        file.write("# changed\n")
    checkout.make()
    [again] = checkout.log[before:]
    assert again.endswith("--editable .[cpu]")


def test_the_two_commands_do_not_take_each_others_record(checkout: Checkout) -> None:
    checkout.make(name="quickstart")
    before = len(checkout.log)
    checkout.make("test", name="test")
    assert len(checkout.log) > before


def test_an_environment_that_was_moved_is_made_again(checkout: Checkout) -> None:
    checkout.make()
    (checkout.folder / ".venv" / "made-in").write_text("/somewhere/else\n")
    before = len(checkout.log)
    checkout.make()
    assert checkout.log[before].startswith("-m venv --clear ")


def test_a_failing_pip_is_shown_and_tried_again_the_next_time(checkout: Checkout) -> None:
    done = checkout.make(torch=True, failing="install")
    assert done.returncode == 1
    assert "what pip says" in done.stderr
    assert done.stderr.endswith("Installing failed: pip's output is above.\n")
    before = len(checkout.log)
    assert checkout.make(torch=True).returncode == 0
    assert len(checkout.log) > before


def test_everything_that_the_scripts_install_is_pinned_at_an_accepted_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    wanted = [*project["project"]["dependencies"], *(one for name in INSTALLED for one in extras[name])]
    wanted += [*groups["lint"], *groups["test"]]
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions.pop(canonicalize_name(requirement.name)))
    assert versions == {}, "pinned, and nothing installs it"


def bash(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("bash")), *arguments],
        cwd=cwd,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_types_of_every_python_script_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    checked = {found for pattern in settings["files"] for found in ROOT.glob(pattern)}
    own = [path for path in (ROOT / "scripts").rglob("*") if "namespace" not in path.relative_to(ROOT).parts]
    scripts = [path for path in own if path.is_file() and is_python(path)]
    assert len(scripts) > 50
    assert [path.name for path in scripts if not checked.intersection((path, *path.parents))] == []


def test_the_gpu_check_can_be_imported_without_latentrt() -> None:
    """It makes latentrt importable itself, on a machine that has only torch, onnx and onnxruntime."""
    code = "import sys; sys.modules['latentrt'] = None; sys.path.insert(0, sys.argv[1]); import gpu.schedule"
    command = [sys.executable, "-c", code, str(ROOT / "scripts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def is_python(path: Path) -> bool:
    return path.suffix == ".py" or (not path.suffix and b"python" in path.read_bytes().partition(b"\n")[0])
