"""From a checkpoint to a bundle: what is read, what is refused, and what an interrupted export leaves behind."""

import errno
import importlib.metadata
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from architectures import ALL, picture
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.weights.safetensors_file import SafetensorsFile, write_safetensors
from latentrt.runtime import open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError, CheckpointError, ConfigError, LatentRTError, OutputError
from latentrt.runtime.system.hashing import HashingWriter

SMALL = "relu_one_block"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def checkpoint(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small checkpoint of one's own; its folder's parent holds nothing else."""
    (tmp_path / "source").mkdir()
    return Path(shutil.copytree(checkpoint_of(SMALL), tmp_path / "source" / "model"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for outputs, empty."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def refuse(source: Path, out: Path, sentence: str, kind: type[LatentRTError] = CheckpointError) -> None:
    """The export fails with one sentence and leaves nothing."""
    with pytest.raises(kind, match=sentence) as caught:
        export_bundle(source, out / "bundle")
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []


def edit_config(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Sources that are no checkpoint, or half of one


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, out: Path) -> None:
    refuse(tmp_path / "nothing", out, "does not exist: give a folder or a file")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", out, "is not a diffusers model folder: no config.json")
    (tmp_path / "notes.txt").write_text("hello")
    refuse(tmp_path / "notes.txt", out, "notes.txt is a file")


def test_config_without_weights_and_weights_without_config_are_told_apart(checkpoint: Path, out: Path) -> None:
    config = (checkpoint / "config.json").rename(checkpoint / "aside")
    refuse(checkpoint, out, f"it has {WEIGHTS} but no config.json")
    config.rename(checkpoint / "config.json")
    (checkpoint / WEIGHTS).unlink()
    refuse(checkpoint, out, f"has config.json but no {WEIGHTS}: the weights are missing")


def test_a_pipeline_folder_means_its_vae(checkpoint: Path, out: Path) -> None:
    pipeline = checkpoint.parent
    (pipeline / "model_index.json").write_text("{}")
    refuse(pipeline, out, "for a pipeline, give its vae subfolder")
    checkpoint.rename(pipeline / "vae")
    assert export_bundle(pipeline, out / "bundle").family == "AutoencoderKL"


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_a_pickle_is_refused_and_never_loaded(checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    (checkpoint / WEIGHTS).unlink()
    for ending in (".bin", ".pt", ".pth", ".ckpt"):
        path = checkpoint / f"diffusion_pytorch_model{ending}"
        path.write_bytes(pickle.dumps(_Bomb()))
        refuse(checkpoint, out, rf"only as a pickle \(diffusion_pytorch_model\{ending}\), which can run code")
        refuse(path, out, "is a pickle, which can run code when it is loaded, so it is not opened")
        path.rename(checkpoint / WEIGHTS)
        refuse(checkpoint, out, "is a pickle, which can run code when it is loaded, so it is not opened")
        (checkpoint / WEIGHTS).unlink()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "nonsense", "[" * 100_000, "\xff"])
def test_a_config_that_is_no_json_object_is_refused(text: str, checkpoint: Path, out: Path) -> None:
    (checkpoint / "config.json").write_bytes(text.encode("latin-1"))
    refuse(
        checkpoint,
        out,
        "config.json (is not readable JSON|must hold a JSON object|is not .* it is an empty file)",
    )


def test_an_unknown_block_or_family_lists_what_is_supported(checkpoint: Path, out: Path) -> None:
    edit_config(checkpoint, down_block_types=["AttnDownEncoderBlock2D"])
    refuse(checkpoint, out, "'AttnDownEncoderBlock2D', which is not supported; supported: DownEnc", ConfigError)
    edit_config(checkpoint, _class_name="AutoencoderTiny")
    refuse(
        checkpoint,
        out,
        "one of AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLLTX2Video, got 'AutoencoderTiny'",
        ConfigError,
    )


def test_a_missing_scaling_factor_is_never_guessed(checkpoint: Path, out: Path) -> None:
    values = json.loads((checkpoint / "config.json").read_text())
    del values["scaling_factor"]
    (checkpoint / "config.json").write_text(json.dumps(values))
    refuse(checkpoint, out, r"--scaling-factor .*0\.18215", ConfigError)
    chosen = ExportSettings(overrides={"scaling_factor": 0.18215, "shift_factor": 0.25})
    manifest = export_bundle(checkpoint, out / "bundle", chosen)
    assert manifest.config.scaling_factor == 0.18215
    with open_bundle(out / "bundle", threads=1) as vae:
        scaled = vae.scale_latents(np.ones((1, 4, 2, 2), np.float32))
    np.testing.assert_allclose(scaled, (1 - 0.25) * 0.18215, rtol=1e-6)


# Tensors that do not fit


def test_missing_extra_and_misshapen_tensors_are_named(checkpoint: Path, out: Path) -> None:
    path = checkpoint / WEIGHTS
    whole = load_file(path)
    name = "encoder.conv_in.weight"
    save_file({key: value for key, value in whole.items() if key != name}, path)
    refuse(checkpoint, out, rf"1 tensors are missing \({name}\); is config.json the one that came with these weights")
    save_file(whole | {"decoder.extra": np.zeros(3, np.float32)}, path)
    refuse(checkpoint, out, r"1 tensors are not of this model \(decoder.extra\)")
    save_file(whole | {name: whole[name][:, :2]}, path)
    refuse(checkpoint, out, rf"{name} is \[32, 2, 3, 3\], the config says \[32, 3, 3, 3\]")
    save_file(whole | {name: whole[name].reshape(32, 27)}, path)
    refuse(checkpoint, out, rf"{name} is \[32, 27\]")
    save_file(whole | {name: whole[name].astype(np.int32)}, path)
    refuse(checkpoint, out, rf"{name}' is stored as I32; supported: float32, float16, bfloat16")
    save_file(whole, path)
    edit_config(checkpoint, block_out_channels=[64])
    refuse(checkpoint, out, "tensors have another shape")
    edit_config(checkpoint, block_out_channels=[32], use_quant_conv=False)
    refuse(checkpoint, out, r"not of this model \(quant_conv\.bias, quant_conv\.weight\)")


@pytest.mark.slow
@pytest.mark.parametrize("convolutions", [False, True], ids=["linear", "1x1 convolutions"])
def test_attention_names_of_old_files_load(
    convolutions: bool, checkpoint: Path, bundle_of: Callable[[str], Path], out: Path
) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(checkpoint / WEIGHTS).items():
        renamed = name
        for new, former in old.items():
            renamed = renamed.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
        folded = convolutions and renamed != name and renamed.endswith("weight")
        tensors[renamed] = value[:, :, None, None] if folded else value
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file(tensors, checkpoint / WEIGHTS)
    export_bundle(checkpoint, out / "bundle")
    for component in ("encoder", "decoder"):
        same = load_file(bundle_of(SMALL) / f"{component}.safetensors")
        found = load_file(out / "bundle" / f"{component}.safetensors")
        assert found.keys() == same.keys()
        assert all(np.array_equal(found[name], same[name]) for name in same)


def test_a_tensor_under_its_old_and_its_new_name_is_refused(checkpoint: Path, out: Path) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    tensors["encoder.mid_block.attentions.0.query.bias"] = tensors["encoder.mid_block.attentions.0.to_q.bias"] + 1
    save_file(tensors, checkpoint / WEIGHTS)
    refuse(checkpoint, out, r"encoder\.mid_block\.attentions\.0\.to_q\.bias twice")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_weights_are_widened_exactly(dtype: torch.dtype, checkpoint: Path, out: Path) -> None:
    stored = {name: value.to(dtype) for name, value in safetensors.torch.load_file(checkpoint / WEIGHTS).items()}
    # The extremes of the format too: subnormals, the largest number, minus zero.
    extremes = torch.tensor([torch.finfo(dtype).tiny / 2, torch.finfo(dtype).max, -0.0, torch.finfo(dtype).min])
    stored["encoder.conv_in.bias"][:4] = extremes.to(dtype)
    safetensors.torch.save_file(stored, checkpoint / WEIGHTS)
    export_bundle(checkpoint, out / "bundle")
    for component in ("encoder", "decoder"):
        for name, value in load_file(out / "bundle" / f"{component}.safetensors").items():
            assert value.dtype == np.float32
            assert value.tobytes() == stored[name].to(torch.float32).numpy().tobytes()


def test_the_statistics_of_a_video_checkpoint_reach_the_bundle(
    checkpoint_of: Callable[[str], Path], bundle_of: Callable[[str], Path]
) -> None:
    tensors = load_file(checkpoint_of("ltx20") / WEIGHTS)
    config = Manifest.open(bundle_of("ltx20")).config
    np.testing.assert_array_equal(np.array(config.latents_mean, np.float32), tensors["latents_mean"])
    np.testing.assert_array_equal(np.array(config.latents_std, np.float32), tensors["latents_std"])


# Damaged safetensors files


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "shorter than the length": b"\x08\x00",
    "only a length": struct.pack("<Q", 8),
    "header longer than the file": safetensors_bytes({}, length=1000),
    "header of 2^63 bytes": safetensors_bytes({}, length=2**63),
    "no JSON": safetensors_bytes(b"{not json}"),
    "no UTF-8": safetensors_bytes(b'{"\xff\xfe": 1}'),
    "a list": safetensors_bytes([1, 2]),
    "nested a million deep": safetensors_bytes(b"[" * 1_000_000),
    "entry is no object": safetensors_bytes({"x": 7}),
    "entry without offsets": safetensors_bytes({"x": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
    "unknown dtype": safetensors_bytes({"x": entry(dtype="F33")}, b"\0" * 8),
    "dtype is a list": safetensors_bytes({"x": entry(dtype=["F32"])}, b"\0" * 8),
    "negative shape": safetensors_bytes({"x": entry(shape=[-2])}, b"\0" * 8),
    "fractional shape": safetensors_bytes({"x": entry(shape=[2.0])}, b"\0" * 8),
    "shape is a number": safetensors_bytes({"x": entry(shape=2)}, b"\0" * 8),
    "true as a size": safetensors_bytes({"x": entry(shape=[True, 2])}, b"\0" * 8),
    "shape and offsets disagree": safetensors_bytes({"x": entry(shape=[3])}, b"\0" * 8),
    "shape overflows": safetensors_bytes({"x": entry(shape=[2**62, 4])}, b"\0" * 8),
    "reversed offsets": safetensors_bytes({"x": entry(data_offsets=[8, 0])}, b"\0" * 8),
    "three offsets": safetensors_bytes({"x": entry(data_offsets=[0, 4, 8])}, b"\0" * 8),
    "offsets beyond the end": safetensors_bytes({"x": entry(data_offsets=[8, 16])}, b"\0" * 8),
    "overlap": safetensors_bytes({"x": entry(), "y": entry()}, b"\0" * 8),
    "gap": safetensors_bytes({"x": entry(), "y": entry(data_offsets=[12, 20])}, b"\0" * 20),
    "data cut short": safetensors_bytes({"x": entry()}, b"\0" * 7),
    "data too long": safetensors_bytes({"x": entry()}, b"\0" * 9),
    "a web page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 335000000\n",
    "a zip": b"PK\x03\x04" + b"\0" * 60,
}


OTHERWISE = {
    "empty": "it is an empty file",
    "a web page": "it is a web page",
    "a git-lfs pointer": "it is a Git LFS pointer",
    "a zip": "is a pickle, which can run code",
    # Padding, and tensors that no model needs, are no damage.
    "unknown dtype": "the weights do not fit the config",
    "data too long": "the weights do not fit the config",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_safetensors_file_is_one_sentence(kind: str, checkpoint: Path, out: Path) -> None:
    (checkpoint / WEIGHTS).write_bytes(DAMAGED[kind])
    refuse(checkpoint, out, OTHERWISE.get(kind, f"^{WEIGHTS} is not a usable safetensors file: "))


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.999])
def test_a_truncated_download_is_one_sentence(kept: float, checkpoint: Path, out: Path) -> None:
    content = (checkpoint / WEIGHTS).read_bytes()
    (checkpoint / WEIGHTS).write_bytes(content[: int(len(content) * kept)])
    refuse(checkpoint, out, "is not a usable safetensors file: .*(cut short|truncated)")


def test_weights_that_cannot_be_read_are_one_sentence(checkpoint: Path, out: Path) -> None:
    (checkpoint / WEIGHTS).unlink()
    (checkpoint / WEIGHTS).mkdir()
    refuse(checkpoint, out, "the weights are missing")


VALID = safetensors_bytes({"a": entry(), "b": entry(dtype="BF16", shape=[2, 1], data_offsets=[8, 12])}, b"\1" * 12)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([])
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4))
def test_any_changed_header_byte_is_refused_or_still_consistent(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(VALID)
    for position, value in changes:
        content[position] = value
    check_consistent(tmp_path / "file.safetensors", bytes(content))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=3),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "", "Q4"]),
                "shape": st.lists(st.integers(-1, 4), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3),
            }
        ),
        max_size=3,
    ),
    st.binary(max_size=40),
)
def test_any_header_is_refused_or_consistent(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    check_consistent(tmp_path / "file.safetensors", safetensors_bytes(header, data))


def check_consistent(path: Path, content: bytes) -> None:
    """The file is a CheckpointError, or every tensor lies inside it and reads."""
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return
    assert sum(tensor.end_bytes - tensor.start_bytes for tensor in file.values()) <= len(content)
    for name, tensor in file.items():
        if tensor.dtype in ("F64", "F32", "F16", "BF16"):
            assert file.read(name).shape == tensor.shape
        else:
            with pytest.raises(CheckpointError, match="supported: float32, float16, bfloat16"):
                file.read(name)


def test_a_file_that_we_write_reads_back_with_the_safetensors_package(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"b": (3, 5), "a": (), "c": (0, 4), "d": (7,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    written = write_safetensors(tmp_path / "x.safetensors", shapes, arrays.__getitem__)
    assert written.size_bytes == (tmp_path / "x.safetensors").stat().st_size
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == arrays.keys()
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    ours = SafetensorsFile(tmp_path / "x.safetensors")
    assert all(np.array_equal(ours.read(name), arrays[name]) for name in arrays)


# An output that is whole or absent


@pytest.mark.slow
def test_an_output_that_exists_is_left_alone(checkpoint: Path, out: Path) -> None:
    for kind in ("folder", "file", "dangling link", "bundle"):
        target = out / kind
        if kind == "dangling link":
            target.symlink_to(out / "nowhere")
        elif kind == "file":
            target.write_text("precious")
        elif kind == "bundle":
            export_bundle(checkpoint, target)
        else:
            target.mkdir()
            (target / "precious").write_text("precious")
        before = sorted(path.name for path in out.rglob("*"))
        with pytest.raises(OutputError, match=f"{kind} exists already"):
            export_bundle(checkpoint, target)
        assert sorted(path.name for path in out.rglob("*")) == before


def test_an_output_without_a_parent_folder_is_refused(checkpoint: Path, out: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*bundle: the folder .*missing does not exist"):
        export_bundle(checkpoint, out / "missing" / "bundle")
    (out / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_bundle(checkpoint, out / "file" / "bundle")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    checkpoint: Path, bundle_of: Callable[[str], Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(file.size_bytes for file in Manifest.open(bundle_of(SMALL)).files)
    original = HashingWriter.write
    for room in (0, 1000, needed // 2, needed - 1):
        written = 0

        def write(self: HashingWriter, data: Any, room: int = room) -> None:
            nonlocal written
            written += memoryview(data).nbytes
            if written > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(self, data)

        with monkeypatch.context() as patched:
            patched.setattr(HashingWriter, "write", write)
            refuse(checkpoint, out, "cannot write .*bundle: the disk is full", OutputError)
    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "write", lambda self: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota")))
        refuse(checkpoint, out, "cannot write .*bundle: the disk is full", OutputError)
    export_bundle(checkpoint, out / "bundle")


def run_export(checkpoint: Path, bundle: Path, before: str) -> subprocess.CompletedProcess[str]:
    """An export in a process of its own, after the Python lines `before`."""
    script = f"""
import os, resource, signal
from pathlib import Path
from latentrt.export.bundle import export_bundle
from latentrt.runtime.errors import LatentRTError
from latentrt.runtime.bundle.manifest import Manifest
progress = None
{textwrap.dedent(before)}
try:
    export_bundle(Path({str(checkpoint)!r}), Path({str(bundle)!r}), None, progress)
except LatentRTError as error:
    print(type(error).__name__, error)
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_file_that_the_system_refuses_to_grow_is_one_sentence_and_leaves_nothing(checkpoint: Path, out: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    result = run_export(checkpoint, out / "bundle", limit)
    assert result.stdout.startswith(f"OutputError cannot write {out / 'bundle'} (File too large)"), result.stderr
    assert list(out.iterdir()) == []


STAGES = ["encoder weights", "encoder graph", "decoder weights", "decoder graph", "golden samples", "manifest"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_nothing(stage: str, checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(doing: str, done: int, total: int) -> None:
        if doing == stage:
            signal.raise_signal(signal.SIGINT)

    if stage == "manifest":
        original = Manifest.write

        def write(manifest: Manifest) -> None:
            original(manifest)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Manifest, "write", write)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, out / "bundle", None, interrupt)
    assert list(out.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("stage", ["decoder weights", "manifest"])
def test_a_killed_export_leaves_no_folder_that_opens_and_the_next_one_works(
    stage: str, checkpoint: Path, out: Path
) -> None:
    before = f"""
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        progress = lambda doing, done, total: doing == {stage!r} and kill()
        if {stage!r} == "manifest":
            write = Manifest.write
            Manifest.write = lambda self: (write(self), kill())
    """
    result = run_export(checkpoint, out / "bundle", before)
    assert result.returncode == -signal.SIGKILL, result.stderr
    (left,) = (path for path in out.iterdir() if path.is_dir())
    assert left.name != "bundle"
    assert (left / "manifest.json").exists() == (stage == "manifest"), "it was killed where we meant"
    for folder in (left, out / "bundle"):
        with pytest.raises(BundleError, match=r"is the rest of an interrupted export|is not a bundle"):
            open_bundle(folder)
    export_bundle(checkpoint, out / "bundle").verify_hashes()
    assert [path.name for path in out.iterdir()] == ["bundle"], "what the killed process left is gone"


def test_an_export_fills_an_empty_folder_in_place(checkpoint: Path, out: Path) -> None:
    folder = out / "bundle.v1"
    folder.mkdir(mode=0o750)
    (folder / "lost+found").mkdir()  # as on a new disk
    before = folder.stat()
    export_bundle(checkpoint, folder).verify_hashes()
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in out.iterdir()] == ["bundle.v1"]


@pytest.mark.slow
def test_a_failure_of_our_own_leaves_nothing_either(
    checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", fail)
    with pytest.raises(onnx.checker.ValidationError):
        export_bundle(checkpoint, out / "bundle")
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_progress_counts_the_bytes_of_the_weights(checkpoint: Path, out: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    export_bundle(checkpoint, out / "bundle", None, lambda *call: calls.append(call))
    (total,) = {call[2] for call in calls}
    assert total == 4 * open_checkpoint(checkpoint).parameter_count
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert done[-1] == total
    assert list(dict.fromkeys(call[0] for call in calls)) == [*STAGES[:-1], "source files"]


@pytest.mark.slow
def test_an_export_needs_no_installation_of_ours(checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.version

    def version(name: str) -> str:
        if name == "latentrt":  # found by its path alone, as scripts/gpu_check does it
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    made = export_bundle(checkpoint, out / "bundle").produced_by
    assert (made["latentrt"], made["torch"]) == (None, found("torch"))
    assert Manifest.open(out / "bundle").produced_by["latentrt"] is None


@pytest.mark.slow
def test_one_component_can_be_exported_alone(checkpoint: Path, out: Path) -> None:
    for component in ("encoder", "decoder"):
        manifest = export_bundle(checkpoint, out / component, ExportSettings(components=(component,)))
        assert manifest.components == (component,)
        assert not [
            path
            for path in (out / component).iterdir()
            if path.name.partition(".")[0] not in (component, "golden", "manifest")
        ]
        with open_bundle(out / component, threads=1) as vae:
            sample = picture(ALL[SMALL], batch=1, frames=1, height=8, width=8)
            run = vae.encode if component == "encoder" else vae.decode
            vae.warmup([sample.shape])
            other = vae.decode if component == "encoder" else vae.encode
            run(sample if component == "encoder" else np.zeros((1, 4, 8, 8), np.float32))
            with pytest.raises(BundleError, match=f"holds no .*it holds {component}"):
                other(sample if component == "decoder" else np.zeros((1, 4, 8, 8), np.float32))
