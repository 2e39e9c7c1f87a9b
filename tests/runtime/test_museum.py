"""Bundles that earlier versions made open with today's code, and give the numbers that they gave then."""

import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import relative_error
from command_line import invoke
from places import TESTS
from safetensors import safe_open

from latentrt.runtime import BundleError, open_bundle
from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.backends.names import BackendName, ProviderName
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.upgrade import upgrade_bundle

MUSEUM = TESTS / "museum"
BACKENDS: list[BackendName] = ["onnxruntime", "openvino"]
BOUND = 1e-5
LOW_BOUND = {"float16": 5e-3, "bfloat16": 0.1}


class Exhibit:
    """A bundle and what it gave when it was made."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        with safe_open(folder / "results.safetensors", "np") as file:
            self.results: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata()
        self.sample, self.latents = self.results["sample"], self.results["latents"]
        self.tiles: dict[str, int] = json.loads(header["tiles"])
        self.conditions: dict[str, Any] = {}
        if "temb" in self.results:
            self.conditions = {"temb": self.results["temb"], "rng": int(header["seed"])}

    def open(self, backend: BackendName, dtype: Dtype = "float32") -> Any:
        provider: ProviderName | None = "cpu" if backend == "onnxruntime" else None
        return open_bundle(self.bundle, backend=backend, dtype=dtype, provider=provider, threads=1)

    def encode(self, vae: Any, **options: Any) -> np.ndarray:
        return np.asarray(vae.encode(self.sample, **options).latent_dist.parameters)

    def decode(self, vae: Any, **options: Any) -> np.ndarray:
        return np.asarray(vae.decode(self.latents, **self.conditions, **options).sample)

    def agrees(self, array: np.ndarray, name: str, bound: float = BOUND) -> bool:
        return relative_error(array, self.results[name]) <= bound


FOLDERS = sorted(path.parent for path in MUSEUM.glob("*/*/results.safetensors"))


def graphs_of(folder: Path) -> tuple[Graph, ...]:
    return Manifest.open(folder / "bundle").every_graph


def name_of(folder: Path) -> str:
    return folder.relative_to(MUSEUM).as_posix()


def that_hold(pattern: str) -> pytest.MarkDecorator:
    """For the exhibits whose bundle has a graph of such a name that today's code reads."""
    folders = [folder for folder in FOLDERS if any(fnmatch(graph.file, pattern) for graph in graphs_of(folder))]
    assert folders
    return pytest.mark.parametrize("exhibit", folders, indirect=True, ids=name_of)


@pytest.fixture(params=FOLDERS, ids=name_of)
def exhibit(request: pytest.FixtureRequest) -> Exhibit:
    return Exhibit(request.param)


@pytest.fixture(params=BACKENDS)
def vae(exhibit: Exhibit, request: pytest.FixtureRequest) -> Iterator[Any]:
    with exhibit.open(request.param) as opened:
        yield opened


def test_every_family_has_an_exhibit() -> None:
    families = {json.loads((folder / "bundle" / "manifest.json").read_text())["family"] for folder in FOLDERS}
    assert families == {"AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLLTX2Video"}


def test_its_files_are_as_they_were_made(exhibit: Exhibit) -> None:
    result = invoke("inspect", exhibit.bundle, "--verify")
    assert result.exit_code == 0, result.output


def test_it_upgrades_and_gives_the_same_bits(exhibit: Exhibit, tmp_path: Path) -> None:
    with exhibit.open("onnxruntime") as vae:
        before = exhibit.decode(vae)
    digest = Manifest.open(exhibit.bundle).digest
    exhibit.bundle = Path(shutil.copytree(exhibit.bundle, tmp_path / "bundle"))
    report = upgrade_bundle(exhibit.bundle)
    assert report.changes
    assert report.digest == digest
    manifest = Manifest.open(exhibit.bundle)
    assert set(manifest.weight_bytes) == {graph.file for graph in manifest.every_graph}
    manifest.verify_hashes()
    with exhibit.open("onnxruntime") as vae:
        np.testing.assert_array_equal(exhibit.decode(vae), before)
    assert not upgrade_bundle(exhibit.bundle).changes


def test_a_single_pass_gives_what_it_gave(exhibit: Exhibit, vae: Any) -> None:
    assert exhibit.agrees(exhibit.encode(vae), "moments")
    assert exhibit.agrees(exhibit.decode(vae), "decoded")
    assert exhibit.agrees(vae.scale_latents(exhibit.latents), "scaled_latents")
    levels = np.clip((exhibit.results["decoded"] + 1) * 127.5, 0, 255)
    pixels = np.moveaxis(exhibit.decode(vae, output="uint8"), -1, 1)
    assert np.abs(pixels - levels).max() <= 0.51


def test_a_batch_in_slices_gives_what_it_gave(exhibit: Exhibit, vae: Any) -> None:
    vae.enable_slicing()
    assert exhibit.agrees(exhibit.encode(vae), "moments")
    assert exhibit.agrees(exhibit.decode(vae), "decoded")


def test_sizes_that_were_warmed_up_give_what_they_gave(exhibit: Exhibit, vae: Any) -> None:
    vae.warmup([exhibit.sample.shape, exhibit.latents.shape])
    assert exhibit.agrees(exhibit.encode(vae), "moments")
    assert exhibit.agrees(exhibit.decode(vae), "decoded")


def test_tiles_give_what_they_gave(exhibit: Exhibit, vae: Any) -> None:
    vae.enable_tiling(**exhibit.tiles)
    assert exhibit.agrees(exhibit.encode(vae), "tiled_moments")
    assert exhibit.agrees(exhibit.decode(vae), "tiled_decoded")
    assert not exhibit.agrees(exhibit.results["tiled_decoded"], "decoded", 1e-3), "it is tiled"


@that_hold("*.exact_*.onnx")
def test_exact_strips_give_what_a_single_pass_gave(exhibit: Exhibit, vae: Any) -> None:
    vae.enable_tiling(exact=True, strip=4)
    assert exhibit.agrees(exhibit.encode(vae), "moments")
    assert exhibit.agrees(exhibit.decode(vae), "decoded")


@pytest.mark.parametrize("exhibit", [MUSEUM / "362aa54" / "autoencoder-kl-rgba"], indirect=True, ids=name_of)
def test_a_bundle_without_the_steps_of_strips_says_so(exhibit: Exhibit, vae: Any) -> None:
    vae.enable_tiling(exact=True, strip=4)
    with pytest.raises(BundleError, match="graphs for strips"):
        exhibit.decode(vae)


@that_hold("*.stream_*.onnx")
def test_streams_give_what_a_single_pass_gave(exhibit: Exhibit, vae: Any) -> None:
    assert exhibit.agrees(np.concatenate(list(vae.encode_stream(exhibit.sample, 2)), axis=2), "moments")
    frames = list(vae.decode_stream(exhibit.latents, 2, **exhibit.conditions))
    assert len(frames) > 1
    assert exhibit.agrees(np.concatenate(frames, axis=2), "decoded")
    vae.enable_streaming(2)
    assert exhibit.agrees(exhibit.decode(vae), "decoded")


@pytest.mark.parametrize("exhibit", [MUSEUM / "6972662" / "autoencoder-kl-ltx2-video"], indirect=True, ids=name_of)
def test_a_video_bundle_of_schema_1_opens_without_streams_and_says_so(exhibit: Exhibit) -> None:
    assert any(exhibit.bundle.glob("decoder.stream_*.onnx"))
    with exhibit.open("onnxruntime") as vae, pytest.raises(BundleError, match="stream"):
        list(vae.decode_stream(exhibit.latents, 2, **exhibit.conditions))


@that_hold("decoder.causal.onnx")
def test_the_other_causality_gives_what_it_gave(exhibit: Exhibit, vae: Any) -> None:
    assert exhibit.agrees(exhibit.encode(vae, causal=False), "moments_non_causal")
    assert exhibit.agrees(exhibit.decode(vae, causal=True), "decoded_causal")
    assert not exhibit.agrees(exhibit.results["decoded_causal"], "decoded", 1e-3), "it is another graph"


@that_hold("decoder.float16.onnx")
def test_float16_is_near_to_what_float32_gave(exhibit: Exhibit) -> None:
    with exhibit.open("onnxruntime", "float16") as vae:
        moments, decoded = exhibit.encode(vae), exhibit.decode(vae)
        assert not exhibit.agrees(decoded, "decoded"), "it is not the float32 graph that ran"
        assert exhibit.agrees(moments, "moments", LOW_BOUND["float16"])
        assert exhibit.agrees(decoded, "decoded", LOW_BOUND["float16"])
        if any(exhibit.bundle.glob("*.stream_*.float16.onnx")):
            vae.enable_streaming(2)
        if any(exhibit.bundle.glob("*.exact_*.float16.onnx")):
            vae.enable_tiling(exact=True, strip=4)
        assert exhibit.agrees(exhibit.decode(vae), "decoded", LOW_BOUND["float16"])


def test_openvino_computes_in_bfloat16_near_to_what_float32_gave(exhibit: Exhibit, needs_bfloat16: None) -> None:
    with exhibit.open("openvino", "bfloat16") as vae:
        assert exhibit.agrees(exhibit.encode(vae), "moments", LOW_BOUND["bfloat16"])
        assert exhibit.agrees(exhibit.decode(vae), "decoded", LOW_BOUND["bfloat16"])
