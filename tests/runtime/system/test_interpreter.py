"""The Python that workers are started with: never an application."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentrt.runtime.errors import EngineError
from latentrt.runtime.system import interpreter as module
from latentrt.runtime.system.interpreter import interpreter, module_command, worker_environment


def test_an_ordinary_process_has_its_own_interpreter() -> None:
    assert interpreter() == Path(sys.executable)


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [(sys, "frozen", True), (sys, "frozen", "macosx_app"), (sys, "oxidized", True), (module, "__compiled__", object())],
)
def test_a_frozen_application_has_none(
    target: object, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyInstaller and cx_Freeze, py2app, PyOxidizer, Nuitka."""
    monkeypatch.setattr(target, name, value, raising=False)
    assert interpreter() is None
    with pytest.raises(EngineError, match="this program has no Python interpreter to start"):
        module_command("latentrt.runtime.autoencoders.calibration_worker")


@pytest.mark.parametrize("executable", [None, "", "/usr/bin/env", "/nowhere/python3"])
def test_another_program_is_never_taken_for_python(executable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that embeds Python, such as uWSGI. The interpreter of its environment is found."""
    monkeypatch.setattr(sys, "executable", executable)
    found = interpreter()
    assert found is not None
    assert found.name.startswith("python")
    assert found.parent == Path(sys.exec_prefix) / "bin"
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")
    assert interpreter() is None


def test_workers_of_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that is started in error starts no further ones."""
    for _ in range(2):
        assert interpreter() is not None
        for name, value in worker_environment().items():
            monkeypatch.setenv(name, value)
    assert interpreter() is None


def test_a_worker_finds_the_modules_that_the_program_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a zipapp, or an application with a folder of its own libraries. Python's own modules still come first."""
    (tmp_path / "added_module.py").write_text("import json\nprint(json.dumps(sorted(['added'])))\n")
    (tmp_path / "json.py").write_text("raise ImportError('not this one')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    done = subprocess.run(module_command("added_module"), capture_output=True, text=True, check=True, env=os.environ)
    assert json.loads(done.stdout) == ["added"]
