"""One engine for many fine-tunes: which weights may be exchanged, whose engine a bundle may take, and that it runs with
the bundle's own weights. tensorrt builds on a GPU: here its build process and its engines are stand-ins, and what the
other library shows without a GPU (parsing, marking, flags) is real."""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_device
import numpy as np
import onnx
import pytest
from command_line import invoke
from scaled import scale_weights

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines import build as building
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.output_layers import add_outputs
from latentrt.export.engines.refitting import mark_weights, set_refit_flags
from latentrt.export.engines.settings import BuildSettings, Extent
from latentrt.export.engines.weight_bytes import weight_bytes
from latentrt.export.verify.quality import psnr
from latentrt.runtime import BackendUnavailable, BundleError, EngineError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.arrays.pixels import to_pixels
from latentrt.runtime.backends.tensorrt.opener import missing_library
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.system.hashing import sha256_of

pytestmark = pytest.mark.slow

SHARED = BuildSettings("tensorrt", tiles=(Extent(1, 64, 64),), strip_weights=True, refit=True)
Z = np.random.default_rng(5).standard_normal((1, 4, 8, 8), np.float32)


@pytest.fixture(scope="module")
def models(checkpoint_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle in two precisions, and one of its fine-tune. Copy them before changing them."""
    folder = tmp_path_factory.mktemp("models")
    tuned = Path(shutil.copytree(checkpoint_of("sd"), folder / "checkpoint"))
    for layer in ("decoder.conv_in", "decoder.mid_block.attentions.0.to_q", "encoder.conv_out"):
        scale_weights(tuned, layer, 1.5)
    for name, source in (("base", checkpoint_of("sd")), ("tuned", tuned)):
        export_bundle(source, folder / name, ExportSettings(dtypes=("float32", "float16")))
    return folder / "base", folder / "tuned"


@pytest.fixture
def bundles(models: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of them."""
    base, tuned = (Path(shutil.copytree(bundle, tmp_path / bundle.name)) for bundle in models)
    return base, tuned


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the build process was asked for; in its place engines of the host device come out."""
    asked: list[dict[str, Any]] = []

    def build(order: dict[str, Any], progress: Any) -> dict[str, Any]:
        asked.append(order)
        stripped = order["settings"]["strip_weights"]
        engine = {"adds": order["settings"]["adds"]}
        engine |= {"weights": order["exchanged"]} if stripped else {"graph": order["graph"]}
        Path(order["output"]).write_text(json.dumps(engine))
        numbers = dict.fromkeys(("parse_seconds", "build_seconds", "peak_bytes", "activation_bytes"), 1)
        return {"library_version": "0.0", **numbers}

    monkeypatch.setattr(building, "run_worker", build)
    monkeypatch.setattr(building, "library_version", lambda backend: "0.0")
    monkeypatch.setattr(building, "_own_capability", lambda: "0.0")
    monkeypatch.setattr(building, "gpu_name", lambda: "NVIDIA Host 1")
    host_device.install(monkeypatch)
    return asked


def shared(bundles: tuple[Path, Path], **changes: Any) -> Any:
    """Build for the first, take from there for the second."""
    base, tuned = bundles
    build_engines(base, SHARED)
    return build_engines(tuned, dataclasses.replace(SHARED, **changes), source=base)


def test_a_fine_tune_runs_with_its_own_weights_in_the_engine_of_another_bundle(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    base, tuned = bundles
    taken = shared(bundles)
    assert [(one.fresh, one.taken) for one in taken] == [(False, True)] * 2
    assert len(orders) == 2, "nothing was built for the second"
    assert Manifest.open(tuned).engines == tuple(one.record for one in taken)
    assert Manifest.open(base).engines == Manifest.open(tuned).engines, "named after the graph, not after the weights"
    for one in taken:
        one.record.check_file(tuned)
        assert (base / one.record.file).samefile(tuned / one.record.file), "one file with two names"
    results = {}
    for bundle in bundles:
        with open_bundle(bundle, backend="tensorrt") as vae, open_bundle(bundle, backend="onnxruntime") as wanted:
            results[bundle] = wanted.decode(Z).sample
            np.testing.assert_allclose(vae.decode(Z).sample, results[bundle], atol=1e-5)
            sample = np.tanh(results[bundle])
            moments = wanted.encode(sample).latent_dist.parameters
            np.testing.assert_allclose(vae.encode(sample).latent_dist.parameters, moments, atol=1e-5)
    assert np.abs(results[base] - results[tuned]).max() > 0.01, "the weights make a difference"


def test_taking_engines_twice_does_nothing_and_a_damaged_one_is_taken_again(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    base, tuned = bundles
    (_, decoder) = (one.record for one in shared(bundles))
    again = build_engines(tuned, SHARED, source=base)
    assert [(one.fresh, one.taken) for one in again] == [(False, False)] * 2
    assert not any(one.fresh for one in build_engines(tuned, SHARED)), "and without the other bundle"
    (tuned / decoder.file).unlink()
    assert [one.taken for one in build_engines(tuned, SHARED, source=base)] == [False, True]
    (tuned / decoder.file).unlink()
    (base / decoder.file).write_bytes(b"another")
    with pytest.raises(EngineError, match="has 7 bytes and its record says"):
        build_engines(tuned, SHARED, source=base)
    assert not [path for path in (tuned / "engines").iterdir() if "partial" in path.name]


def test_where_a_file_has_no_second_name_it_is_copied(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    for one in shared(bundles):
        one.record.check_file(bundles[1])
        assert not (bundles[0] / one.record.file).samefile(bundles[1] / one.record.file)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"tiles": (Extent(1, 64, 128),)},
            "sizes is sample (1, 3, 8, 8) to (1, 3, 64, 64), wanted sample (1, 3, 8, 8) to (1, 3, 64, 128);",
        ),
        ({"strip_weights": False}, "strip_weights is True, wanted False;"),
        ({"optimization_level": 2, "tf32": True}, "optimization_level is None, wanted 2; tf32 is False, wanted True;"),
    ],
)
def test_an_engine_of_other_settings_is_not_taken_and_both_values_are_said(
    changes: dict[str, Any], sentence: str, bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    before = (bundles[1] / "manifest.json").read_bytes()
    with pytest.raises(EngineError) as caught:
        shared(bundles, **changes)
    assert f"is not what {bundles[1]} wants: {sentence} build with the same options" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (bundles[1] / "manifest.json").read_bytes() == before
    assert not (bundles[1] / "engines").exists()


def test_an_engine_of_another_graph_version_or_gpu_is_not_taken(
    bundles: tuple[Path, Path],
    checkpoint_of: Callable[[str], Path],
    orders: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, tuned = bundles
    build_engines(base, SHARED)
    export_bundle(checkpoint_of("relu_one_block"), tmp_path / "other", ExportSettings())
    ours = [
        next(file.sha256 for file in Manifest.open(bundle).files if file.name == "encoder.onnx")[:16]
        for bundle in (base, tmp_path / "other")
    ]
    with pytest.raises(EngineError, match=f"SHA-256 of the graph is {ours[0]}, wanted {ours[1]};"):
        build_engines(tmp_path / "other", SHARED, source=base)
    monkeypatch.setattr(building, "library_version", lambda backend: "0.1")
    with pytest.raises(EngineError, match=r"version of tensorrt is 0.0, wanted 0.1;"):
        build_engines(tuned, SHARED, source=base)
    monkeypatch.setattr(building, "library_version", lambda backend: "0.0")
    monkeypatch.setattr(building, "_own_capability", lambda: "9.0")
    with pytest.raises(EngineError, match=r"compute capability is 0.0, wanted 9.0;"):
        build_engines(tuned, SHARED, source=base)


def test_an_engine_that_wants_its_own_weights_back_is_not_taken(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    base, tuned = bundles
    with pytest.raises(
        EngineError, match=r"no tensorrt engine of encoder.onnx to take: run `latentrt build .* --refit`"
    ):
        build_engines(tuned, SHARED, source=base)
    identical = dataclasses.replace(SHARED, refit=False)
    (encoder, _) = (one.record for one in build_engines(base, identical))
    with pytest.raises(EngineError, match="refit is False, wanted True;"):
        build_engines(tuned, identical, source=base)
    with pytest.raises(EngineError, match=r"was built when the weights of encoder.onnx had SHA-256"):
        encoder.check_origin(encoder.graph_sha256, "0" * 64)
    with pytest.raises(
        BackendUnavailable, match=r"--engines-from: engines of tensorrt-rtx 1.7.1 take no other weights"
    ):
        build_engines(tuned, BuildSettings("tensorrt-rtx"), source=base)


def test_an_engine_that_takes_any_weights_is_still_of_one_graph(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    (encoder, _) = (one.record for one in shared(bundles))
    encoder.check_origin(encoder.graph_sha256, "0" * 64)
    with pytest.raises(EngineError, match=r"was built when the graph of encoder.onnx had SHA-256"):
        encoder.check_origin("0" * 64, encoder.weights_sha256)


def test_an_engine_that_finds_no_value_for_a_weight_does_not_run(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    shared(bundles)
    manifest = Manifest.open(bundles[1])
    decoder = manifest.engines[1]
    content = json.dumps({"adds": ["pixels"], "weights": ["decoder.conv_out.bias", "of_another_model"]})
    (bundles[1] / decoder.file).unlink()
    (bundles[1] / decoder.file).write_text(content)
    changed = dataclasses.replace(decoder, bytes=len(content), sha256=sha256_of(bundles[1] / decoder.file))
    dataclasses.replace(manifest, engines=(manifest.engines[0], changed)).write()
    with (
        open_bundle(bundles[1], backend="tensorrt") as vae,
        pytest.raises(EngineError, match=r"of decoder.onnx \(it still wants of_another_model\): .*without --strip-we"),
    ):
        vae.decode(Z)


def test_weights_that_are_not_in_the_file_count_as_device_memory(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    (_, decoder) = (one.record for one in shared(bundles))
    stored = sum(external_bytes(bundles[0] / "decoder.onnx").values())
    assert decoder.stripped_bytes == stored > 1_000_000 > decoder.bytes
    with open_bundle(bundles[1], backend="tensorrt") as vae:
        vae.decode(Z)
        assert host_device.HostGpu.latest.ledger.taken > stored
    held_in_full = build_engines(bundles[0], dataclasses.replace(SHARED, strip_weights=False))
    assert [one.record.stripped_bytes for one in held_in_full] == [0, 0]


def test_the_command_line_takes_and_tells(bundles: tuple[Path, Path], orders: list[dict[str, Any]]) -> None:
    base, tuned = bundles
    options = ["--backend", "tensorrt", "--tile", "64x64", "--component", "decoder", "--strip-weights"]
    invoke("build", base, *options, "--refit")
    text = invoke("build", tuned, *options, "--engines-from", base).stdout
    assert f" MB for 0.0; taken from {base}\n" in text
    (engine,) = json.loads(invoke("build", tuned, *options, "--engines-from", base, "--json").stdout)["engines"]
    assert (engine["fresh"], engine["taken"]) == (False, False)
    shown = invoke("inspect", tuned, "--files").stdout
    assert (
        f"without {engine['stripped_bytes'] / 1e6:.1f} MB of weights, takes the weights of any bundle with its" in shown
    )


def exported_before(bundle: Path) -> Manifest:
    """The bundle as a version that recorded no weights left it."""
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    del values["weight_bytes"]
    path.write_text(json.dumps(values))
    return Manifest.open(bundle)


def test_the_weights_of_a_graph_are_recorded_outside_of_the_digest(bundles: tuple[Path, Path]) -> None:
    now = Manifest.open(bundles[0])
    assert set(now.weight_bytes) == {graph.file for graph in now.every_graph}
    before = exported_before(bundles[0])
    assert before.weight_bytes == {}
    assert before.digest == now.digest


def test_a_bundle_of_an_earlier_version_refits_where_onnx_is_installed(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]]
) -> None:
    base, tuned = bundles
    wanted = {graph.file: dict(weight_bytes(now, graph)) for now in (Manifest.open(base),) for graph in now.graphs}
    for bundle in bundles:
        exported_before(bundle)
    built = build_engines(base, SHARED)
    assert all(one.taken for one in build_engines(tuned, SHARED, source=base))
    for one, order in zip(built, orders, strict=True):
        assert order["exchanged"] == list(wanted[one.record.graph])
        assert one.record.stripped_bytes == sum(wanted[one.record.graph].values())


def test_without_onnx_a_bundle_of_an_earlier_version_is_to_be_exported_again(
    bundles: tuple[Path, Path], orders: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = bundles
    exported_before(base)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for asked in (SHARED, dataclasses.replace(SHARED, refit=False), dataclasses.replace(SHARED, strip_weights=False)):
        with pytest.raises(BundleError, match=r"did not record the weights of encoder.onnx: export it again, or inst"):
            build_engines(base, asked)
    plain = dataclasses.replace(SHARED, refit=False, strip_weights=False)
    assert all(one.fresh for one in build_engines(base, plain)), "engines that keep their weights need no names"
    assert all(one.fresh for one in build_engines(tuned, SHARED)), "and a bundle of this version needs no onnx"


@pytest.mark.parametrize("wrong", [{"encoder.onnx": {"x": -1}}, {"encoder.onnx": {"x": "1"}}, {"encoder.onnx": 5}, 7])
def test_a_damaged_record_of_weights_is_refused(wrong: Any, bundles: tuple[Path, Path]) -> None:
    path = bundles[0] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weight_bytes": wrong}))
    with pytest.raises(BundleError, match="is damaged"):
        Manifest.open(bundles[0])


def external_bytes(graph: Path) -> dict[str, int]:
    """What lies in the weights file, by the ONNX library."""
    initializers = onnx.load(str(graph), load_external_data=False).graph.initializer
    entries = {one.name: {entry.key: entry.value for entry in one.external_data} for one in initializers}
    return {name: int(values["length"]) for name, values in entries.items() if values}


@pytest.mark.parametrize("name", ["sd", "ltx20", "noise_timestep"])
def test_every_weight_of_every_graph_can_be_exchanged(
    name: str, checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """By tensorrt-rtx's parser, which is real: what it does not know by its name, it would keep."""
    import tensorrt_rtx as library

    logger = library.Logger(library.Logger.INTERNAL_ERROR)
    settings = ExportSettings(dtypes=("float32", "float16", "bfloat16"))
    export_bundle(checkpoint_of(name), tmp_path / "bundle", settings)
    manifest = Manifest.open(tmp_path / "bundle")
    kinds = {(graph.component, graph.dtype, graph.kind): graph for graph in manifest.every_graph}
    assert len(kinds) == 12
    for graph in kinds.values():
        network = library.Builder(logger).create_network(0)
        parser = library.OnnxParser(network, logger)
        assert parser.parse_from_file(str(manifest.path_of(graph.file)))
        weights = weight_bytes(manifest, graph)
        assert weights == external_bytes(manifest.path_of(graph.file)), "as the ONNX library reads them"
        mark_weights(network, weights)
        with pytest.raises(RuntimeError, match="the weights of_nobody cannot be exchanged: build without --refit"):
            mark_weights(network, ["of_nobody"])


def test_what_is_added_to_an_engine_has_no_weights() -> None:
    """The ONNX refitter fails where an engine has one that the graph does not hold."""
    import tensorrt_rtx as library

    logger = library.Logger(library.Logger.INTERNAL_ERROR)
    network = library.Builder(logger).create_network(0)
    result = network.add_input("result", library.DataType.FLOAT, (1, 3, 8, 8))
    network.mark_output(network.add_identity(result).get_output(0))
    add_outputs(network, library, ["pixels", "not_finite"])
    kinds = {network.get_layer(index).type for index in range(network.num_layers)}
    assert not kinds & {library.LayerType.CONSTANT, library.LayerType.SCALE, library.LayerType.CONVOLUTION}
    assert library.LayerType.ACTIVATION in kinds


def test_pixels_are_the_runtimes_in_every_float() -> None:
    """The engine's two steps, max(0, min(1, x / 2 + 1 / 2)) and 255 times that, in float32."""
    ties = (np.arange(-8, 520, dtype=np.float32) / 2 / np.float32(127.5)) - 1
    near = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (-9, 9)])
    x = np.concatenate([ties, near, np.random.default_rng(0).normal(0, 0.7, 1 << 18).astype(np.float32)])
    unit = np.clip(x * np.float32(0.5) + np.float32(0.5), np.float32(0), np.float32(1))
    wanted = to_pixels(x.reshape(1, 1, 1, -1)).ravel()
    np.testing.assert_array_equal(np.rint(unit * np.float32(255)).astype(np.uint8), wanted)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"strip_weights": True, "refit": True}, {"STRIP_PLAN", "REFIT_INDIVIDUAL"}),
        ({"strip_weights": True, "refit": False}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"strip_weights": False, "refit": True}, {"REFIT_INDIVIDUAL"}),
        ({"strip_weights": False, "refit": False}, set()),
    ],
)
def test_identical_weights_are_promised_only_where_they_are(flags: dict[str, bool], wanted: set[str]) -> None:
    import tensorrt_rtx as library

    config = library.Builder(library.Logger(library.Logger.INTERNAL_ERROR)).create_builder_config()
    set_refit_flags(config, library, flags)
    names = ("STRIP_PLAN", "REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL")
    assert {name for name in names if config.get_flag(getattr(library.BuilderFlag, name))} == wanted


@pytest.mark.gpu
@pytest.mark.skipif(missing_library("tensorrt") is not None, reason="needs an NVIDIA GPU with tensorrt")
@pytest.mark.parametrize(("dtype", "least_db"), [("float32", 60), ("float16", 45)])
def test_refitted_engines_give_what_onnx_runtime_gives(dtype: Dtype, least_db: int, bundles: tuple[Path, Path]) -> None:
    base, tuned = bundles
    settings = dataclasses.replace(SHARED, dtypes=(dtype,))
    build_engines(base, settings)
    assert all(one.taken for one in build_engines(tuned, settings, source=base))
    for bundle in bundles:
        with open_bundle(bundle, provider="cpu") as wanted, open_bundle(bundle, backend="tensorrt", dtype=dtype) as vae:
            assert psnr(vae.decode(Z).sample, wanted.decode(Z).sample) >= least_db
    build_engines(base, dataclasses.replace(settings, refit=False))  # the newest is taken
    with open_bundle(base, provider="cpu") as wanted, open_bundle(base, backend="tensorrt", dtype=dtype) as vae:
        pixels = wanted.decode(Z, output="uint8").sample.astype(int)
        assert np.abs(vae.decode(Z, output="uint8").sample - pixels).max() <= (1 if dtype == "float32" else 8)
