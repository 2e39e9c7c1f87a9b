"""Nothing in a file reaches the terminal as a control character, and no message is longer than a message should be."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LATENTRT, invoke

from latentrt.cli.printing.terminal import LogFormatter, echo, one_line
from latentrt.runtime.errors import BundleError, EngineError, LatentRTError
from latentrt.tiling.plain_text import shortened, shown, visible

ESCAPES = "a\x1b]0;title\x07b\rc\x08d\x9b2Je\x7ff\u202eg\u2066h\u200bi\u2028j\U000e0041k\x00l\udcffm"
SMALL = "relu_one_block"


def run(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [*LATENTRT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_control_characters_become_visible() -> None:
    assert visible("a\x1b[1mb") == r"a\x1b[1mb"
    assert visible(ESCAPES).isprintable()
    assert visible("one\ntwo") == r"one\ntwo"
    assert visible("one\n\ttwo\x85", lines=True) == "one\n\ttwo\\x85"
    for harmless in ("plain", "größe 日本語", "\u3000", "👩\u200d👩\u200d👧", "\u0646\u200c\u062e"):
        assert visible(harmless) == harmless


def test_texts_are_cut_in_their_middle() -> None:
    text = "begin" + "x" * 1_000_000 + "end"
    assert len(shortened(text)) == 600
    assert shortened(text).startswith("begin")
    assert shortened(text).endswith("end")
    assert shortened("x" * 600) == "x" * 600
    for value in (text, text.encode(), [text] * 3, 10**5000, {"x": text}):
        assert len(shown(value)) <= 120
    assert shown("\x1b") == r"'\x1b'"


def test_every_error_of_ours_is_one_line_of_bounded_length() -> None:
    for kind in (LatentRTError, BundleError, EngineError):
        assert str(kind("plain")) == "plain"
        assert str(kind(ESCAPES)).isprintable()
        assert len(str(kind("x" * 10**6))) <= 2000


def test_lines_of_a_report_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    echo("name\n  every hash is right", ESCAPES, "x" * 10_000)
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == r"name\n  every hash is right"
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 2000
    assert len(lines) == 4


def test_the_log_is_one_line_a_record() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "field %s", ("x\n\x1b" + "y" * 10_000,), None)
    assert LogFormatter().format(record).isprintable()
    assert len(LogFormatter().format(record)) <= 600
    assert len(one_line("x" * 10_000)) <= 600


def test_wrong_usage_quotes_arguments_safely(tmp_path: Path) -> None:
    done = run("plan", "bundle", "--size", "\x1b]0;x\x07", cwd=tmp_path)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert r"\x1b" in done.stderr


def test_names_and_fields_of_files_are_printed_as_text(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))
    values = json.loads((bundle / "manifest.json").read_text())
    values["produced_by"]["source"] = "18\x1b]0;title\x07\n  every hash is right"
    values["config"]["\x1b[2Jfield" + "x" * 5000] = 1
    (bundle / "manifest.json").write_text(json.dumps(values))
    (bundle / "\x1b[2J.bin").write_bytes(b"")
    for arguments in (("-v", "inspect", bundle), ("inspect", bundle, "--json")):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for text in (done.stdout, done.stderr):
            assert not set(text) & {"\x1b", "\x07", "\r"}
            assert "\n  every hash is right" not in text
        assert "ignored" in done.stderr
        assert max(map(len, done.stderr.splitlines())) <= 600
    assert json.loads(done.stdout)["unlisted_files"] == ["\x1b[2J.bin"]


def test_errors_name_files_safely(tmp_path: Path) -> None:
    for name in ("\x1b]0;x\x07\udcff\u202ename", "x" * 3000):
        done = run("inspect", f"./{name}.safetensors", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert done.stderr.rstrip("\n").isprintable()
        assert len(done.stderr) <= 610


def test_a_traceback_holds_no_escapes(tmp_path: Path) -> None:
    code = "from latentrt.cli import main; main._run = lambda signals: [].index('\\x1b[2J' + chr(7)); main.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: '\\x1b[2J\\x07' is not in list" in done.stderr
    assert "\x1b" not in done.stderr


def test_json_reports_have_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    from latentrt.cli.printing.terminal import emit_json

    emit_json({"name": ESCAPES})
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text) == {"name": ESCAPES}


def test_a_table_is_still_printed_in_lines(bundle_of: Callable[[str], Path]) -> None:
    text = invoke("inspect", bundle_of(SMALL), "--verify").output
    assert text.count("\n") > 10
    assert r"\n" not in text
