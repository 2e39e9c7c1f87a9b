"""Signals that ask a command to end: it cleans up, and ends by the signal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from command_line import LATENTRT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

# Writes an output, and waits in its middle for a signal. It stands in for a command.
WAITS = """
import sys, time
import latentrt.cli.main as main
from pathlib import Path
from latentrt.runtime.system.outputs.partial_output import partial_output

def command(standalone_mode):
    with partial_output(Path(sys.argv[1])) as partial:
        partial.write_text("half")
        print("writing", flush=True)
        try:
            time.sleep(60)
        finally:
            time.sleep(0.5)  # a clean-up that takes time
main.cli = command
main.main()
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU] if sys.platform != "win32" else []


def started(*prefix: str, folder: Path, code: str = WAITS) -> "subprocess.Popen[str]":
    command = [*prefix, sys.executable, "-c", code, str(folder / "out.npy")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_cleans_up_and_ends_by_the_signal(number: signal.Signals, tmp_path: Path) -> None:
    process = started(folder=tmp_path)
    process.send_signal(number)
    time.sleep(0.2)
    for later in (signal.SIGHUP, number):  # a terminal that closes sends several
        process.send_signal(later)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -number
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert errors == f"Interrupted{by}: nothing unfinished was left behind.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_in_the_middle_of_the_clean_up_leaves_nothing_either(tmp_path: Path) -> None:
    code = WAITS.replace("time.sleep(0.5)  # a clean-up that takes time", "raise SystemError")
    code = "import latentrt.runtime.system.outputs.partial_output as p; p._give_up = lambda mark: None\n" + code
    process = started(folder=tmp_path, code=code)
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_nohup_keeps_a_command_running(tmp_path: Path) -> None:
    process = started("nohup", folder=tmp_path, code=WAITS.replace("time.sleep(60)", "time.sleep(1)"))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.slow
def test_ctrl_backslash_still_ends_a_command_at_once(tmp_path: Path) -> None:
    process = started(folder=tmp_path)
    process.send_signal(signal.SIGQUIT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGQUIT


@pytest.mark.slow
def test_an_interrupt_that_python_drops_comes_again(tmp_path: Path) -> None:
    frees = "class Freed:\n    def __del__(self):\n        print('writing', flush=True)\n        time.sleep(60)\n"
    code = frees + WAITS.replace('print("writing", flush=True)', "").replace(
        "time.sleep(60)", "Freed(); time.sleep(60)"
    )
    process = started(folder=tmp_path, code="import time\n" + code)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_loop_of_the_shell_ends_with_the_command(tmp_path: Path) -> None:
    loop = f'for number in 1 2 3; do "{sys.executable}" -c "$0" "$1"; done; echo went on'
    command = ["bash", "-c", loop, WAITS, str(tmp_path / "out.npy")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (-signal.SIGINT, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs namespaces of Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_process_of_a_container_ends_too(number: signal.Signals, tmp_path: Path) -> None:
    container = ["unshare", "-r", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user make namespaces")
    process = started(*container, folder=tmp_path)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_measuring_process_ends_with_the_command(
    number: signal.Signals, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    command = [*LATENTRT, "calibrate", str(bundle_of("sd")), "--component", "decoder"]
    environment = os.environ | {"LATENTRT_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(60) == -number
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

MODULE = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupts())
from latentrt.cli.start import main
main()
"""


@pytest.mark.parametrize(
    ("module", "message"),
    [("click", ""), ("numpy.linalg", "Interrupted: nothing unfinished was left behind.\n")],
)
def test_ctrl_c_during_an_import_prints_no_traceback(module: str, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, "decode", str(tmp_path), str(tmp_path), "-o", "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.lstrip("\n")) == (-signal.SIGINT, message)
