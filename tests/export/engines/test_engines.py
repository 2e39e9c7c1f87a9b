"""Real engines, built on the CPU by tensorrt-rtx: nothing here is a stand-in for the library."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnx
import pytest
from architectures import ALL
from command_line import LATENTRT, invoke
from scaled import scale_weights

import latentrt.export.demo
from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.planning import default_tile, plan_profiles
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.runtime import BundleError, EngineError, LatentRTError
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.config.families import config_from_dict

pytestmark = pytest.mark.slow

DEMO = Path(str(latentrt.export.demo.__file__)).parent
RTX: Final = "tensorrt-rtx"
SMALL = "relu_one_block"
QUICK: dict[str, Any] = {
    "components": ("decoder",),
    "tiles": (Extent(1, 64, 64),),
    "compute_capabilities": ("8.9",),
    "optimization_level": 0,
}


@pytest.fixture(scope="module")
def built(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle in float32 and float16 with an engine of its float32 decoder. Copy it before changing it."""
    bundle = tmp_path_factory.mktemp("built") / "bundle"
    export_bundle(checkpoint_of(SMALL), bundle, ExportSettings(dtypes=("float32", "float16")))
    build_engines(bundle, BuildSettings(RTX, **QUICK))
    return bundle


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(built, tmp_path / "bundle"))


def quick(bundle: Path, **changes: Any) -> bool:
    """Build as `built` was; whether anything was built."""
    (one,) = build_engines(bundle, BuildSettings(RTX, **(QUICK | changes)))
    one.record.check_file(bundle)
    assert one.record in Manifest.open(bundle).engines
    return one.fresh


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*LATENTRT, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", ["ltx20", *(pytest.param(name, marks=pytest.mark.long) for name in ("ltx23", "sdxl"))])
def test_real_architectures_become_portable_and_single_engines(
    name: str, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint_of(name), bundle, ExportSettings(dtypes=("float32", "float16")))
    frames = (9, 17) if name.startswith("ltx") else (1, 1)
    tiles = (Extent(1, 128, 128, frames[0]), Extent(2, 192, 256, frames[1]))
    portable = build_engines(bundle, BuildSettings(RTX, dtypes=("float32", "float16"), tiles=tiles))
    single = BuildSettings(RTX, components=("decoder",), tiles=tiles[:1], static=True, compute_capabilities=("12.0",))
    engines = [one.record for one in (*portable, *build_engines(bundle, single))]
    assert [(record.component, record.dtype) for record in engines] == [
        ("encoder", "float32"),
        ("decoder", "float32"),
        ("encoder", "float16"),
        ("decoder", "float16"),
        ("decoder", "float32"),
    ]
    assert [record.compute_capabilities for record in engines] == [("8.0", "8.6", "8.9", "12.0")] * 4 + [("12.0",)]
    assert [len(record.profiles) for record in engines] == [2, 2, 2, 2, 1]
    assert engines[4].profiles[0].is_static
    added = [record.settings["adds"] for record in engines]
    assert added == [[], ["pixels"], ["not_finite"], ["pixels", "not_finite"], ["pixels"]]
    for record in engines:
        content = (bundle / record.file).read_bytes()
        for name in ("pixels", "not_finite"):
            assert (name.encode() in content) == (name in record.settings["adds"]), "outputs are in an engine by name"
        record.check_file(bundle)
        assert record.bytes > 100_000
        assert record.activation_bytes is not None
        assert record.activation_bytes > 100_000
    assert Manifest.open(bundle).engines == tuple(engines)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_demo_bundles_become_engines_in_both_precisions(kind: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(DEMO / kind, bundle, ExportSettings(dtypes=("float32", "float16")))
    tile = Extent(1, 128, 128, 9 if kind == "video" else 1)
    every = {(component, dtype, True) for component in ("encoder", "decoder") for dtype in ("float32", "float16")}
    for capabilities in ((), ("8.6",)):
        settings = BuildSettings(RTX, dtypes=("float32", "float16"), tiles=(tile,), compute_capabilities=capabilities)
        built = build_engines(bundle, settings)
        assert {(one.record.component, one.record.dtype, one.fresh) for one in built} == every
        wanted = capabilities or ("8.0", "8.6", "8.9", "12.0")
        assert {one.record.compute_capabilities for one in built} == {wanted}
        assert not any(one.fresh for one in build_engines(bundle, settings))
    assert len(Manifest.open(bundle).engines) == 8


def test_conditions_noise_and_bfloat16_become_an_engine(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    settings = ExportSettings(components=("decoder",), dtypes=("bfloat16",))
    export_bundle(checkpoint_of("noise_timestep"), bundle, settings)
    seen: list[tuple[int, int]] = []
    tiles = (Extent(2, 128, 96, 9),)
    build = BuildSettings(RTX, ("bfloat16",), ("decoder",), tiles=tiles, compute_capabilities=("8.9",))
    (one,) = build_engines(bundle, build, lambda done, total: seen.append((done, total)))
    ranges = one.record.profiles[0].ranges
    assert (ranges["latents"].minimum, ranges["latents"].maximum) == ((1, 16, 1, 1, 1), (2, 16, 2, 4, 3))
    assert (ranges["temb"].minimum, ranges["temb"].maximum) == ((1,), (2,))
    assert (ranges["noise_mid_block"].minimum, ranges["noise_mid_block"].maximum) == ((2, 1, 1), (2, 4, 3))
    assert len(seen) > 5, "a bar has something to show"
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_second_build_does_nothing(own: Path) -> None:
    (record,) = Manifest.open(own).engines
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(own.rglob("*")) if path.is_file()}
    assert not quick(own)
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(own.rglob("*")) if path.is_file()}
    assert before == after
    assert record.file in {path.relative_to(own).as_posix() for path in before}


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": (Extent(1, 64, 72),)},
        {"tiles": (Extent(2, 64, 64),)},
        {"static": True},
        {"dtypes": ("float16",)},
        {"compute_capabilities": ("12.0",)},
        {"compute_capabilities": ("8.9", "12.0")},
        {"optimization_level": 1},
        {"workspace_bytes": 2**30},
        {"tf32": True},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items())[:40],
)
def test_another_profile_precision_capability_or_flag_is_another_engine(change: dict[str, Any], own: Path) -> None:
    (old,) = Manifest.open(own).engines
    assert quick(own, **change)
    engines = Manifest.open(own).engines
    assert len(engines) == 2, "the old one still fits what it was built for"
    assert len({record.key for record in engines}) == 2
    old.check_file(own)
    assert not quick(own)


@pytest.mark.parametrize("part", ["decoder.safetensors", "decoder.onnx"])
def test_other_weights_or_another_graph_never_get_the_old_engine(
    part: str, own: Path, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    (old,) = Manifest.open(own).engines
    if part == "decoder.safetensors":
        source = Path(shutil.copytree(checkpoint_of(SMALL), tmp_path / "source"))
        scale_weights(source, "decoder.conv_out", 0.5)
        export_bundle(source, tmp_path / "other", ExportSettings(components=("decoder",)))
        content = (tmp_path / "other" / part).read_bytes()
    else:
        model = onnx.load(str(own / part), load_external_data=False)
        model.doc_string = "another"
        content = model.SerializeToString()
    replace_file(own, part, content)
    manifest = Manifest.open(own)
    hashes = {file.name: file.sha256 for file in manifest.files}
    with pytest.raises(EngineError, match=r"was built when the (graph|weights) of decoder.onnx had SHA-256") as caught:
        old.check_origin(hashes["decoder.onnx"], hashes["decoder.safetensors"])
    was = old.weights_sha256 if part.endswith("safetensors") else old.graph_sha256
    assert was[:16] in str(caught.value)
    assert hashes[part][:16] in str(caught.value)
    assert quick(own)
    (record,) = Manifest.open(own).engines
    assert record.key != old.key
    assert not (own / old.file).exists(), "no bundle needs it any more"


def test_weights_changed_behind_the_manifest_are_refused(own: Path) -> None:
    content = bytearray((own / "decoder.safetensors").read_bytes())
    content[-1] ^= 1
    (own / "decoder.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"decoder.safetensors was altered"):
        quick(own)


def test_another_version_or_gpu_is_refused_with_both_values(own: Path) -> None:
    (record,) = Manifest.open(own).engines
    record.check_machine(record.library_version, "8.9")
    with pytest.raises(EngineError, match=rf"built with tensorrt-rtx {record.library_version}, and 9.9.9 is installed"):
        record.check_machine("9.9.9", "8.9")
    with pytest.raises(EngineError, match=r"for compute capability 8.9, and this GPU has 12.0: run `latentrt build"):
        record.check_machine(record.library_version, "12.0")


def test_an_engine_of_another_library_version_is_built_again(own: Path) -> None:
    manifest = Manifest.open(own)
    (record,) = manifest.engines
    file = record.file.replace(record.key, "0")
    older = dataclasses.replace(record, library_version="1.0.0", key="0" * 16, file=file)
    (own / record.file).rename(own / older.file)
    dataclasses.replace(manifest, engines=(older,)).write()
    assert quick(own)
    assert {one.library_version for one in Manifest.open(own).engines} == {"1.0.0", record.library_version}


def test_a_truncated_foreign_or_missing_engine_is_refused_and_built_again(own: Path) -> None:
    (record,) = Manifest.open(own).engines
    path = own / record.file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(EngineError, match=rf"has {len(whole) - 1} bytes and its record says {len(whole)}"):
        record.check_file(own)
    assert quick(own)
    (record,) = Manifest.open(own).engines
    path.write_bytes(bytes(record.bytes))
    with pytest.raises(EngineError, match=r"has SHA-256 .* and its record says .*it is not the engine that was built"):
        record.check_file(own)
    with pytest.raises(EngineError, match="not the engine that was built"):
        invoke("inspect", own, "--verify")
    path.unlink()
    with pytest.raises(EngineError, match="is missing: run `latentrt build BUNDLE --backend tensorrt-rtx"):
        record.check_file(own)
    Manifest.open(own)  # the bundle itself is as good as before


def test_inspect_lists_engines(own: Path) -> None:
    report = json.loads(invoke("inspect", own, "--verify", "--json").stdout)
    (engine,) = report["engines"]
    assert {key: engine[key] for key in ("component", "backend", "dtype", "compute_capabilities")} == {
        "component": "decoder",
        "backend": RTX,
        "dtype": "float32",
        "compute_capabilities": ["8.9"],
    }
    assert (own / engine["file"]).stat().st_size == engine["bytes"]
    text = invoke("inspect", own, "--files").stdout
    assert f"{engine['file']}: tensorrt-rtx {engine['library_version']}, float32, compute capability 8.9" in text
    assert "MiB of activations" in text
    assert "latents (1, 4, 1, 1) to (1, 4, 64, 64)" in text


@pytest.mark.parametrize("file", ["../outside.engine", "/etc/passwd"])
def test_an_engine_outside_the_bundle_is_refused(file: str, own: Path) -> None:
    values = json.loads((own / "manifest.json").read_text())
    values["engines"][0]["file"] = file
    (own / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="lies outside the bundle; refused"):
        Manifest.open(own)


@pytest.mark.parametrize("key", ["file", "bytes", "profiles", "key", "settings"])
@pytest.mark.parametrize("value", [None, 7.5, [None], "absent"])
def test_a_damaged_record_is_refused(key: str, value: Any, own: Path) -> None:
    values = json.loads((own / "manifest.json").read_text())
    values["engines"][0][key] = value
    if value == "absent":
        del values["engines"][0][key]
    (own / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"is damaged: .* field .*of the wrong kind"):
        Manifest.open(own)


def test_an_interrupted_build_leaves_nothing(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of("ltx20"), tmp_path / "bundle"))
    before = {path.name: path.stat().st_mtime_ns for path in bundle.iterdir()}
    command = [*LATENTRT, "build", str(bundle), "--backend", RTX, "--tile", "256x256x17"]
    for stop in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        workers: list[int] = []
        deadline = time.monotonic() + 60
        while not workers and time.monotonic() < deadline:
            workers = children_of(process.pid)
            time.sleep(0.05)
        time.sleep(0.3)  # while it builds, which takes two seconds and more
        assert workers, "it builds in a process of its own"
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
        if stop == signal.SIGINT:
            assert process.returncode == -signal.SIGINT
            assert said.strip() == "Interrupted: nothing unfinished was left behind."
        while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        left = {path.name: path.stat().st_mtime_ns for path in bundle.iterdir() if path.name != "engines"}
        engines = list((bundle / "engines").iterdir()) if (bundle / "engines").exists() else []
        if stop == signal.SIGKILL:  # the next build of the engine removes the lock and what is partial
            left = {name: time for name, time in left.items() if not name.endswith(".lock")}
            engines = [path for path in engines if not path.name.startswith(".")]
        assert left == before
        assert engines == []


def test_what_a_killed_build_left_is_gone_after_the_next_one(own: Path) -> None:
    (record,) = Manifest.open(own).engines
    (own / record.file).unlink()
    output = own / record.file
    leave = "import os, signal, sys; from pathlib import Path\n"
    leave += "from latentrt.runtime.system.outputs.partial_output import partial_output\n"
    leave += "with partial_output(Path(sys.argv[1])) as partial:\n"
    leave += "    partial.write_bytes(b'half of an engine'); os.kill(os.getpid(), signal.SIGKILL)\n"
    subprocess.run([sys.executable, "-c", leave, str(output)], check=False)
    assert len(list(output.parent.iterdir())) == 2
    assert quick(own)
    assert [path.name for path in (own / "engines").iterdir()] == [Path(record.file).name]


def test_two_builds_of_one_engine_make_it_once_and_none_is_lost(own: Path) -> None:
    for record in Manifest.open(own).engines:
        (own / record.file).unlink()
    command = [*LATENTRT, "build", str(own), "--backend", RTX, "--compute-capability", "8.9", "--json", "--component"]
    jobs = [("decoder", "64x64"), ("decoder", "64x64"), ("encoder", "64x64"), ("encoder", "128x128")]
    processes = [
        subprocess.Popen([*command, component, "--tile", tile], stdout=subprocess.PIPE, text=True)
        for component, tile in jobs
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sorted(one["engines"][0]["fresh"] for one in said[:2]) == [False, True]
    files = {one["engines"][0]["file"] for one in said}
    assert len(files) == 3
    assert files <= {record.file for record in Manifest.open(own).engines}


def children_of(process: int) -> list[int]:
    """The processes that it started (Linux)."""
    try:
        return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    except OSError:
        return []


def test_the_librarys_own_words_go_to_the_log(own: Path) -> None:
    done = run(
        "build", own, "--backend", RTX, "--component", "decoder", "--tile", "64x80", "--compute-capability", "8.9"
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert [line.partition(":")[0].rpartition(".")[2] for line in done.stdout.splitlines()[:1]] == ["engine"]
    assert len(done.stdout.splitlines()) == 2
    record = Manifest.open(own).engines[-1]
    log = Path(os.environ["LATENTRT_CACHE"]) / "logs" / f"{Path(record.file).stem}.log"
    assert "Total Activation Memory" in log.read_text()


def test_an_unknown_operator_is_one_sentence_with_node_and_reason(own: Path) -> None:
    model = onnx.load(str(own / "decoder.onnx"), load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Frobnicate"
    replace_file(own, "decoder.onnx", model.SerializeToString())
    done = run("build", own, "--backend", RTX, "--component", "decoder", "--tile", "64x64")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    sentence = f"Error: tensorrt-rtx does not build decoder.onnx: node {node.name} (Frobnicate): "
    assert done.stderr.startswith(sentence)
    assert "Plugin not found" in done.stderr
    assert "its log is " in done.stderr


def test_a_build_process_that_dies_is_one_sentence_and_its_last_words_are_in_the_log(
    own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "polygraphy.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "startup"))
    with pytest.raises(EngineError, match="the build process was ended by the system, as when memory runs out"):
        quick(own, optimization_level=2)
    (tmp_path / "startup" / "polygraphy.py").write_text("import sys; sys.stderr.write('last words'); sys.exit(7)")
    with pytest.raises(EngineError, match=r"the build process ended with code 7; its log is (.*\.log)$") as caught:
        quick(own, optimization_level=2)
    assert "last words" in Path(str(caught.value).rpartition(" ")[2]).read_text()
    assert len(list((own / "engines").iterdir())) == 1


def test_a_gpu_that_cannot_run_it_is_one_sentence_with_node_and_reason(
    bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundle_of("ltx20"), tmp_path / "bundle"))
    settings = BuildSettings(RTX, tiles=(Extent(1, 64, 64, 9),), compute_capabilities=("7.5",))
    with pytest.raises(EngineError, match=r"node encoder.conv_in.*FP32 3D convolution is not supported") as caught:
        build_engines(bundle, settings)
    assert "\n" not in str(caught.value)
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backend": "onnxruntime"}, "--backend must be one of tensorrt, tensorrt-rtx, got 'onnxruntime'"),
        ({"backend": "tensorrt"}, "needs tensorrt, which is not installed|no NVIDIA driver answers"),
        ({"backend": "tensorrt", "compute_capabilities": ("8.9",)}, "tensorrt-rtx builds for other GPUs"),
        ({"strip_weights": True}, "--strip-weights: tensorrt-rtx .*build without it, or with --backend tensorrt"),
        ({"refit": True}, "--refit: tensorrt-rtx"),
        ({"version_compatible": True}, "--version-compatible: engines of tensorrt-rtx"),
        ({"hardware_compatible": True}, "--hardware-compatible: tensorrt-rtx takes --compute-capability"),
        ({"timing_cache": True}, "--timing-cache: tensorrt-rtx times nothing"),
        ({"compute_capabilities": ("7.0",)}, r"Compute capability 7.0 \(SM70\) not supported"),
        ({"dtypes": ("bfloat16",)}, "holds no bfloat16 graphs"),
        ({"components": ("transformer",)}, "holds none of transformer: it holds encoder, decoder"),
        ({"tiles": (Extent(1, 0, 64),)}, "every axis needs at least one element|1 <= min"),
        ({"tiles": (Extent(1, 64, 64, 9),)}, "is an image model: give HEIGHTxWIDTH"),
        ({"optimization_level": 6}, "--optimization-level must be 0 to 5, got 6"),
        ({"workspace_bytes": 0}, "--workspace must be at least one byte"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_one_sentence_and_leaves_nothing(
    options: dict[str, Any], sentence: str, own: Path
) -> None:
    shutil.rmtree(own / "engines")
    values = QUICK | {"backend": RTX} | options
    if values["backend"] != RTX and "compute_capabilities" not in options:
        del values["compute_capabilities"]
    with pytest.raises(LatentRTError, match=sentence) as caught:
        build_engines(own, BuildSettings(**values))
    assert "\n" not in str(caught.value)
    assert not (own / "engines").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile", "64"], "is not of the form HEIGHTxWIDTH or HEIGHTxWIDTHxFRAMES"),
        (["--tile", "64xx64"], "is not of the form HEIGHTxWIDTH or HEIGHTxWIDTHxFRAMES"),
        (["--shapes", "64x64", "64x64", "64x64"], "is not of the form BATCHxHEIGHTxWIDTH or BATCHxHEIGHTxWIDTHxFRAMES"),
        (["--shapes", "1x8x8", "1x8x8", "1x8x8", "--static"], "leave --tile and --static out"),
        (["--compute-capability", "89"], "give 8.9"),
        (["--workspace", "much"], "800MiB"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], words: str, own: Path) -> None:
    done = run("build", own, "--backend", RTX, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_explicit_shapes_give_each_profile_its_three_sizes(own: Path) -> None:
    shapes = ["--shapes", "1x8x8", "1x32x64", "4x64x64", "--shapes", "1x128x128", "1x128x128", "1x128x128"]
    options = ["--component", "encoder", "--compute-capability", "8.9", "--optimization-level", "0", "--json"]
    report = json.loads(invoke("build", own, "--backend", RTX, *shapes, *options).stdout)
    (engine,) = report["engines"]
    assert engine["profiles"] == [
        {"sample": {"min": [1, 3, 8, 8], "opt": [1, 3, 32, 64], "max": [4, 3, 64, 64]}},
        {"sample": {"min": [1, 3, 128, 128], "opt": [1, 3, 128, 128], "max": [1, 3, 128, 128]}},
    ]


def test_a_tile_starts_at_the_smallest_size_that_both_halves_take(bundle_of: Callable[[str], Path]) -> None:
    config = config_from_dict(ALL["ltx20"])  # its decoder pads by reflection: two cells at least
    encoder, decoder = Manifest.open(bundle_of("ltx20")).graphs
    settings = BuildSettings(RTX, tiles=(Extent(1, 256, 192, 17),))
    assert str(plan_profiles(config, encoder, settings)[0]) == "sample (1, 3, 1, 64, 64) to (1, 3, 17, 256, 192)"
    assert str(plan_profiles(config, decoder, settings)[0]) == "latents (1, 16, 1, 2, 2) to (1, 16, 3, 8, 6)"
    for frames in (16, 17, 23):  # as in tiling: N frames are N // 8 + 1 latent frames
        tiles = (Extent(1, 256, 192, frames),)
        assert plan_profiles(config, decoder, dataclasses.replace(settings, tiles=tiles)) == plan_profiles(
            config, decoder, settings
        )
    off = dataclasses.replace(settings, tiles=(Extent(1, 250, 192, 17),))
    with pytest.raises(
        LatentRTError, match=r"= \(17, 250, 192\): the next larger one that fits its grid is \(17, 256,"
    ):
        plan_profiles(config, encoder, off)
    big, small = Extent(1, 256, 256, 17), Extent(1, 128, 128, 17)
    with pytest.raises(LatentRTError, match="wants 1 <= min <= opt <= max on every axis, got height 256, 128, 256"):
        plan_profiles(config, encoder, dataclasses.replace(settings, shapes=((big, small, big),)))


def test_flux_2_is_an_image_model_too(bundle_of: Callable[[str], Path]) -> None:
    config = config_from_dict(ALL["flux2"])
    encoder, decoder = Manifest.open(bundle_of("flux2")).graphs
    settings = BuildSettings(RTX)
    assert default_tile(config) == (512, 512)
    assert str(plan_profiles(config, encoder, settings)[0]).endswith("to (1, 3, 512, 512)")
    assert str(plan_profiles(config, decoder, settings)[0]).endswith("to (1, 8, 64, 64)")


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Put other content into a bundle, with the manifest agreeing, as another export would."""
    (bundle / name).write_bytes(content)
    values = json.loads((bundle / "manifest.json").read_text())
    for file in values["files"]:
        if file["name"] == name:
            file |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(values))
