"""Exact strips through the runtime, on engines: diffusers' untiled numbers at any strip."""

import contextlib
import errno
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from architectures import KL, picture, relative_error

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.runtime import AutoencoderKL, BundleError, Cancelled, EngineError, InputError, OutputError, open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.execution.activations import ActivationStore
from latentrt.runtime.system.page_memory import ReusedPages

NAMES = ["sd", "sdxl", "flux", "no_attention", "odd_groups", "flux2_small_decoder"]
CELLS = (9, 7)
BOUND = 5e-5
Open = Callable[..., AutoencoderKL]


@pytest.fixture
def opened(bundle_of: Callable[[str], Path]) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_one(name: str) -> AutoencoderKL:
            vae = stack.enter_context(open_bundle(bundle_of(name), backend="onnxruntime", provider="cpu", threads=1))
            assert isinstance(vae, AutoencoderKL)
            return vae

        yield open_one


def latents_of(vae: AutoencoderKL, cells: tuple[int, int] = CELLS, batch: int = 2) -> np.ndarray:
    shape = (batch, vae.config.latent_channels, *cells)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def reference(checkpoint: Path, component: str, array: np.ndarray) -> np.ndarray:
    """diffusers, untiled."""
    model = getattr(diffusers, json.loads((checkpoint / "config.json").read_text())["_class_name"])
    loaded = model.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        if component == "decoder":
            return np.asarray(loaded.decode(torch.from_numpy(array)).sample.numpy())
        return np.asarray(loaded.encode(torch.from_numpy(array)).latent_dist.parameters.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_strips_and_tiles_give_what_diffusers_gives_untiled(
    name: str, opened: Open, checkpoint_of: Callable[[str], Path]
) -> None:
    vae = opened(name)
    z, ratio = latents_of(vae), vae.grid.spatial
    x = picture(KL[name], batch=2, frames=1, height=CELLS[0] * ratio, width=CELLS[1] * ratio)
    wanted_sample = reference(checkpoint_of(name), "decoder", z)
    wanted_moments = reference(checkpoint_of(name), "encoder", x)
    for strip in (ratio, 4 * ratio, (4 * ratio, 2 * ratio), CELLS[0] * ratio, None):
        vae.enable_tiling(exact=True, strip=strip)
        assert relative_error(vae.decode(z).sample, wanted_sample) <= BOUND, strip
        assert relative_error(vae.encode(x).latent_dist.parameters, wanted_moments) <= BOUND, strip


@pytest.mark.slow
def test_every_form_of_output_agrees(opened: Open) -> None:
    from latentrt.runtime.arrays.pixels import to_pixels

    vae = opened("no_attention")
    z = latents_of(vae)
    vae.enable_tiling(exact=True, strip=(16, 24))
    wanted = vae.decode(z).sample
    garbage = np.full(wanted.shape, np.nan, np.float32)
    assert vae.decode(z, out=garbage).sample is garbage
    assert np.array_equal(garbage, wanted)
    strided = np.empty((*wanted.shape[:-1], 2 * wanted.shape[-1]), np.float32)[..., ::2]
    assert np.array_equal(vae.decode(z, out=strided).sample, wanted)
    assert np.array_equal(vae.decode(z, crop=(33, 41)).sample, wanted[:, :, :33, :41])
    assert np.array_equal(vae.decode(z, output="uint8").sample, to_pixels(wanted))
    assert np.array_equal(vae.decode(z, output="uint8", crop=(7, 9)).sample, to_pixels(wanted[:, :, :7, :9]))
    with pytest.raises(InputError, match="output='device'"):
        vae.decode(z, output="device")

    vae.enable_slicing()
    np.testing.assert_allclose(vae.decode(z).sample, wanted, atol=2e-6 * np.abs(wanted).max())
    vae.disable_tiling()
    whole = vae.decode(z).sample
    assert relative_error(vae.tiled_decode(z).sample, whole) <= BOUND, "the settings stay"
    x = picture(KL["no_attention"], batch=1, frames=1, height=64, width=48)
    moments = vae.encode(x).latent_dist.parameters
    assert relative_error(vae.tiled_encode(x).latent_dist.parameters, moments) <= BOUND
    x_odd = x[:, :, :61, :47]
    vae.enable_tiling(exact=True, strip=16)
    restored = vae(x_odd, pad=True).sample
    vae.disable_tiling()
    assert relative_error(restored, vae(x_odd, pad=True).sample) <= BOUND


@pytest.mark.slow
def test_strips_follow_the_budget_and_none_is_wasted(opened: Open) -> None:
    vae = opened("no_attention")
    z = latents_of(vae, batch=1)

    def tiles(**options: Any) -> int:
        told: list[tuple[int, int]] = []
        vae.enable_tiling(exact=True, **options)
        vae.decode(z, progress=lambda *counts: told.append(counts))
        assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))
        assert {total for _, total in told} == {told[-1][1]}
        return told[-1][1]

    steps = len([graph for graph in Manifest.open(vae.manifest.folder).strip_graphs if graph.component == "decoder"])
    assert tiles(strip=CELLS[0] * 8) == steps
    assert tiles() == steps, "a small picture is one strip"
    assert tiles(strip=8) > tiles(strip=16) > tiles(strip=32) > steps
    assert tiles(memory_bytes=1 << 20) > steps, "little memory, thin strips"
    assert tiles(strip=(16, 16)) > tiles(strip=16)


def test_activations_in_files_leave_nothing_behind(opened: Open, tmp_path: Path) -> None:
    vae = opened("sd")
    z = latents_of(vae)
    x = picture(KL["sd"], batch=1, frames=1, height=64, width=48)
    vae.enable_tiling(exact=True, strip=16)
    wanted, moments = vae.decode(z).sample, vae.encode(x).latent_dist.parameters
    vae.enable_tiling(exact=True, strip=16, memory_bytes=0, folder=tmp_path)
    assert np.array_equal(vae.decode(z).sample, wanted)
    assert np.array_equal(vae.encode(x).latent_dist.parameters, moments)
    assert list(tmp_path.iterdir()) == []

    class Interrupted(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert list(tmp_path.iterdir()) == [], "the files have no names"
        if done > total // 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        vae.decode(z, progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(vae.decode(z).sample, wanted), "it can be used again"


def test_activations_kept_in_float16_take_half_the_room_and_approximate(opened: Open, tmp_path: Path) -> None:
    vae = opened("sd")
    z = latents_of(vae)
    vae.enable_tiling(exact=True, strip=16)
    exact = vae.decode(z)
    vae.enable_tiling(exact=True, strip=16, storage="float16")
    near = vae.decode(z)
    assert (exact.exact, near.exact, vae.tiled_decode(z).exact) == (True, False, False)
    assert near.sample.dtype == np.float32
    assert 1e-5 < relative_error(near.sample, exact.sample) < 2e-2
    vae.enable_tiling(exact=True, strip=16, storage="float16", memory_bytes=0, folder=tmp_path)
    assert np.array_equal(vae.decode(z).sample, near.sample), "files hold what memory holds"
    shape = (1, 4, 8, 8)
    shape, whole = (1, 4, 8, 8), (slice(0, 8), slice(0, 8))
    for memory_bytes, held in ((512, 512), (511, 0)):
        with closing(ActivationStore(memory_bytes, tmp_path, np.dtype(np.float32), np.dtype(np.float16))) as store:
            kept = store.empty(shape)
            tile = np.random.default_rng(0).standard_normal(shape, np.float32)
            assert store.place(shape) is None, "it is narrowed, so it cannot be made there"
            store.keep(kept, *whole, tile, None)
            assert store.held_bytes == held
            found = kept.read(slice(2, 5), slice(1, 8), ReusedPages())
            assert found.dtype == kept.read(*whole, ReusedPages()).dtype == np.float32
            assert np.array_equal(found, tile.astype(np.float16)[:, :, 2:5, 1:8])
            with pytest.raises(EngineError, match=r"does not fit into float16.*keep them in float32"):
                store.keep(kept, *whole, 70000 * np.ones(shape, np.float32), None)


def test_cancel_stops_between_tiles(opened: Open) -> None:
    vae = opened("no_attention")
    vae.enable_tiling(exact=True, strip=8)
    started = threading.Event()

    def progress(done: int, total: int) -> None:
        assert done < total
        if not started.is_set():
            started.set()
            canceller.join()

    def cancel() -> None:
        started.wait()
        vae.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Cancelled):
        vae.decode(latents_of(vae), progress=progress)
    canceller.join()
    assert np.isfinite(vae.decode(latents_of(vae)).sample).all()


def test_a_full_disk_is_one_clear_error(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = opened("no_attention")
    made: list[Any] = []

    class Full:
        """A file on a disk with room for 200 kB."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 200_000

        def write(self, part: memoryview) -> int:
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = self.file.write(part[: self.left])
            self.left -= count
            return int(count)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    original = tempfile.TemporaryFile

    def temporary(**options: Any) -> Full:
        made.append(original(**options))
        return Full(made[-1])

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    vae.enable_tiling(exact=True, strip=16, memory_bytes=0, folder=tmp_path)
    out = np.full((2, 3, 72, 56), np.nan, np.float32)
    with pytest.raises(OutputError, match="the disk is full, so free some space or choose another folder"):
        vae.decode(latents_of(vae), out=out)
    assert made
    assert all(file.closed for file in made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exact": True, "strip": 12}, "multiple of 8 pixels, got 12"),
        ({"exact": True, "strip": (8, 0)}, "columns that are a multiple of 8 pixels, got 0"),
        ({"exact": True, "strip": (8, 8, 8)}, r"pixel rows, or \(rows, columns\)"),
        ({"exact": True, "strip": True}, "got True"),
        ({"exact": True, "memory_bytes": -1}, "memory_bytes: wanted a whole number of bytes"),
        ({"exact": True, "folder": "/there/is/no/such"}, "there is no folder"),
        ({"exact": True, "storage": "bfloat16"}, "storage: wanted 'float32' or 'float16', got 'bfloat16'"),
        ({"storage": "float16"}, "are for exact=True"),
        ({"exact": True, "blend": "diffusers"}, "no tiles and no blend"),
        ({"exact": True, "tile_sample_min_height": 64}, "no tiles and no blend"),
        ({"strip": 64}, "are for exact=True"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(options: dict[str, Any], message: str, opened: Open) -> None:
    vae = opened("no_attention")
    before, tiles = vae.settings, vae.tile_plan("decoder", (1024, 1024)).to_json()
    with pytest.raises(InputError, match=message):
        vae.enable_tiling(**options)
    assert vae.settings is before
    assert vae.tile_plan("decoder", (1024, 1024)).to_json() == tiles


def test_what_exact_strips_cannot_do_is_said(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    plain = tmp_path / "plain"
    export_bundle(checkpoint_of("relu_one_block"), plain, ExportSettings(exact=False))
    z = np.zeros((1, 4, 8, 8), np.float32)
    with AutoencoderKL.from_pretrained(plain) as vae:
        vae.enable_tiling(exact=True)
        with pytest.raises(BundleError, match="no float32 graphs for strips of its decoder: export it again"):
            vae.decode(z)
        with pytest.raises(InputError, match="tile_plan"):
            vae.tile_plan("decoder", (8, 8))


def test_steps_share_the_weights_and_leave_the_whole_graphs_as_they_are(
    tmp_path: Path, checkpoint_of: Callable[[str], Path], bundle_of: Callable[[str], Path]
) -> None:
    with_steps = Manifest.open(bundle_of("sd"))
    plain = export_bundle(checkpoint_of("sd"), tmp_path / "plain", ExportSettings(exact=False))
    assert with_steps.graphs == plain.graphs
    by_name = {file.name: file for file in with_steps.files}
    assert [by_name[file.name] for file in plain.files] == list(plain.files)
    assert {graph.weights for graph in with_steps.strip_graphs} == {graph.weights for graph in plain.graphs}
    more = sum(by_name[graph.file].size_bytes for graph in with_steps.strip_graphs)
    assert more < 300_000
    assert {graph.component for graph in with_steps.strip_graphs} == {"encoder", "decoder"}


def test_a_manifest_with_nonsense_for_a_step_is_refused(tmp_path: Path, bundle_of: Callable[[str], Path]) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_of("relu_one_block"), folder)
    values = json.loads((folder / "manifest.json").read_text())
    assert Manifest.open(folder).strip_graphs
    for field, wrong in (("source", 5), ("kind", "magic"), ("up", 3), ("before", -1), ("skip", 99)):
        changed = json.loads(json.dumps(values))
        changed["components"]["decoder"]["segments"][1]["segment"][field] = wrong
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(BundleError, match="damaged"):
            Manifest.open(folder)


@pytest.mark.slow
def test_the_command_line_decodes_and_encodes_exactly(tmp_path: Path, bundle_of: Callable[[str], Path]) -> None:
    from click.testing import CliRunner

    from latentrt.cli.main import cli

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(cli, list(map(str, arguments)))

    bundle, latents = bundle_of("sd"), tmp_path / "latents.safetensors"
    picture_file = tmp_path / "picture.npy"
    np.save(picture_file, picture(KL["sd"], batch=1, frames=1, height=61, width=47))
    result = run("encode", bundle, picture_file, "-o", latents, "--strips", "--backend", "onnxruntime")
    assert result.exit_code == 0, result.output
    for name, options in (("whole", ()), ("exact", ("--strips",))):
        result = run("decode", bundle, latents, "-o", tmp_path / f"{name}.npy", *options)
        assert result.exit_code == 0, result.output
    exact, whole = np.load(tmp_path / "exact.npy"), np.load(tmp_path / "whole.npy")
    assert exact.shape[-2:] == (61, 47)
    assert relative_error(exact, whole) <= BOUND
    assert not np.array_equal(exact, whole), "it was another way"
    for strip in ("16", "24x16"):
        done = run("decode", bundle, latents, "-o", tmp_path / f"{strip}.npy", "--strips", "--strip", strip)
        assert done.exit_code == 0, done.output
        np.testing.assert_allclose(np.load(tmp_path / f"{strip}.npy"), np.load(tmp_path / "exact.npy"), atol=1e-4)
    half = run("decode", bundle, latents, "-o", tmp_path / "half.npy", "--strips", "--storage", "float16")
    assert half.exit_code == 0, half.output
    assert 1e-5 < relative_error(np.load(tmp_path / "half.npy"), whole) < 2e-2
    for wrong, sentence in (
        (("--strip", "16"), "give --strips too"),
        (("--storage", "float16"), "give --strips too"),
        (("--strips", "--strip", "12"), "wanted rows that are a multiple of 8 pixels, got 12"),
    ):
        refused = run("decode", bundle, latents, "-o", tmp_path / "x.npy", *wrong)
        assert refused.exit_code != 0
        assert sentence in refused.output + str(refused.exception)
    refused = run("decode", bundle, latents, "-o", tmp_path / "x.npy", "--strips", "--tile", "64x64")
    assert refused.exit_code == 2
    assert "--strips needs no --tile" in refused.output
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.slow
def test_steps_become_tensorrt_rtx_engines(bundle_of: Callable[[str], Path]) -> None:
    """On a machine without a GPU, for compute capability 8.9: one step of every kind."""
    import tensorrt_rtx

    manifest = Manifest.open(bundle_of("sd"))
    parts = [graph for graph in manifest.strip_graphs if graph.component == "decoder"]
    kinds = {
        (s.kind, s.skip is None, s.up, s.before): g for g in reversed(manifest.strip_graphs) if (s := g.strip_stage)
    }
    assert len(kinds) == 6, "convolution, with skip, up, down; keys; attention"
    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    ranges = {"batch": (1, 1, 2), "positions": (4, 64, 4096)}
    for graph in {parts[0].file: parts[0], **{graph.file: graph for graph in kinds.values()}}.values():
        network = builder.create_network(1 << int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = tensorrt_rtx.OnnxParser(network, logger)
        assert parser.parse_from_file(str(manifest.path_of(graph.file))), parser.get_error(0)
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(tensorrt_rtx.ComputeCapability.SM89, 0)
        profile = builder.create_optimization_profile()
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        assert [tensor.name for tensor in inputs] == [tensor.name for tensor in graph.inputs]
        for tensor, wanted in zip(inputs, graph.inputs, strict=True):
            if tensor.is_shape_tensor:
                profile.set_shape_input(tensor.name, [0], [1], [1])
            else:
                axes = [
                    (axis,) * 3 if isinstance(axis, int) else ranges.get(axis, (2, 16, 66)) for axis in wanted.shape
                ]
                profile.set_shape(tensor.name, *zip(*axes, strict=True))
        config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config) is not None, graph.file
