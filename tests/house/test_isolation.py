"""The commands in a process each: nothing is looked up or sent, and nothing is written outside the cache folder and the
outputs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LATENTRT

from latentrt.runtime.extras import require

pytestmark = pytest.mark.slow

# Python imports this at its start, in child processes too. It records what Python code looks up, connects to or writes.
_RECORDER = """
import os, sys

def record(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr",
                 "socket.sendto", "socket.sendmsg", "socket.bind"):
        line = f"{event} {arguments[-1]}"
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        line = f"write {os.path.abspath(os.fsdecode(arguments[0]))}"
    elif event == "os.mkdir" and not os.path.exists(arguments[0]):
        line = f"write {os.path.abspath(os.fsdecode(arguments[0]))}"
    else:
        return
    descriptor = os.open(RECORD, os.O_WRONLY | os.O_APPEND) if line != f"write {RECORD}" else None
    if descriptor is not None:
        os.write(descriptor, line.encode() + b"\\n")
        os.close(descriptor)

RECORD = os.environ["RECORD"]
sys.addaudithook(record)
"""
# A network namespace counts the packets that find no way out: the look-ups of native code, which Python cannot see.
_WITHOUT_NETWORK = [
    "unshare",
    "-rn",
    "sh",
    "-c",
    '"$@"; code=$?; cat /proc/self/net/snmp >> "$COUNTS"; exit $code',
    "-",
]
# `demo` exports an image and a video model, and encodes and decodes with both. {} is the checkpoint of a small model.
_COMMANDS = """
doctor
demo demo
export {} image --check-range demo/inputs/drawn.png --dtype float32 --dtype float16
convert {} converted
inspect image --verify
verify image --source {} --backend onnxruntime
verify image --tiling --draw tiling.png --backend onnxruntime --blend linear
encode image demo/inputs/drawn.png -o drawn.safetensors
decode image drawn.safetensors -o drawn.png
encode demo/video_bundle demo/inputs/clip.mp4 -o clip.safetensors --backend openvino
plan demo/video_bundle --size 64x64x17 --memory 1GiB --draw plan.svg
bench image --size 64x64 --repeats 1 --plot bench.png --markdown bench.md
warmup image --size 64x64 --backend openvino
"""
_OUTPUTS = ["bench.md", "bench.png", "clip.safetensors", "converted", "demo", "drawn.png"]
_OUTPUTS += ["drawn.safetensors", "image", "plan.svg", "tiling.png"]
_HARMLESS = ("/dev/null", "/proc/self/")


def _network_can_be_taken_away() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0


def test_every_command_stays_within_its_outputs_and_the_cache_folder(
    tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    require("matplotlib", extra="plot")
    folders = {name: tmp_path / name for name in ("home", "temporary", "cache", "work", "start")}
    for folder in folders.values():
        folder.mkdir()
    folders["cache"].chmod(0o700)
    (folders["start"] / "sitecustomize.py").write_text(_RECORDER)
    record, counts = tmp_path / "record", tmp_path / "counts"
    record.touch()
    counts.touch()
    ours = ("TELEMETRY", "XDG_", "MPLCONFIGDIR", "TORCHINDUCTOR", "HF_")
    environment = {name: value for name, value in os.environ.items() if not any(part in name for part in ours)}
    environment |= {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "LATENTRT_CACHE": str(folders["cache"]),
        "PYTHONPATH": str(folders["start"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RECORD": str(record),
        "COUNTS": str(counts),
    }
    prefix = _WITHOUT_NETWORK if _network_can_be_taken_away() else []
    commands = _COMMANDS.strip().format(*[checkpoint_of("no_attention")] * 3).splitlines()
    for line in commands:
        command = [*prefix, *LATENTRT, *line.split()]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folders["work"], env=environment, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
    recorded = record.read_text().splitlines()
    allowed = tuple(str(folders[name]) for name in ("temporary", "cache", "work"))
    assert [line for line in recorded if not line.removeprefix("write ").startswith((*allowed, *_HARMLESS))] == []
    assert any(line.startswith(f"write {folders['cache']}") for line in recorded)  # so the recorder works
    assert sorted(path.name for path in folders["work"].iterdir()) == _OUTPUTS
    for name in ("home", "temporary"):
        assert list(folders[name].rglob("*")) == []
    lines = [line.split() for line in counts.read_text().splitlines() if line.startswith("Ip:")]
    for names, values in zip(lines[0::2], lines[1::2], strict=True):
        assert dict(zip(names, values, strict=True))["OutNoRoutes"] == "0"
    assert len(lines) == (2 * len(commands) if prefix else 0)


@pytest.mark.parametrize(
    ("library", "variable"), [("matplotlib", "MPLCONFIGDIR"), ("torch", "TORCHINDUCTOR_CACHE_DIR")]
)
def test_the_users_own_folder_for_a_librarys_cache_stays(tmp_path: Path, library: str, variable: str) -> None:
    code = f"""
import os
from latentrt.runtime.extras import require
require({library!r}, extra="plot")
print(os.environ[{variable!r}])
"""
    environment = {name: value for name, value in os.environ.items() if name != variable}
    environment["LATENTRT_CACHE"] = str(tmp_path)
    for given, wanted in (({}, str(tmp_path / library)), ({variable: str(tmp_path / "own")}, str(tmp_path / "own"))):
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment | given)
        assert done.stdout.strip() == wanted
