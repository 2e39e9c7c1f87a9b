"""Opening a bundle: everything that is wrong with one is refused, and an intact one reads back as it was written."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_manifest import failure, failures, results

from latentrt.runtime import open_bundle
from latentrt.runtime.autoencoders.autoencoder_kl import AutoencoderKL
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.schemas import SCHEMA_VERSION
from latentrt.runtime.errors import BundleError

SMALL = "relu_one_block"


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small bundle of one's own."""
    return Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def refuse(bundle: Path, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [SMALL, "playground", "noise_timestep"])
def test_a_manifest_reads_back_as_it_was_written(name: str, bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of(name), tmp_path / "bundle"))
    manifest = Manifest.open(folder)
    text = (folder / "manifest.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(manifest.to_json()))
    manifest.write()
    assert Manifest.open(folder) == manifest
    dataclasses.replace(manifest, ranges={"kept_in_float32": {}}).write()
    assert Manifest.open(folder).ranges == {"kept_in_float32": {}}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *(file.name for file in manifest.files)}


def test_the_manifest_says_what_is_in_the_folder(bundle: Path) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    assert values["schema_version"] == SCHEMA_VERSION
    assert values["family"] == "AutoencoderKL"
    assert values["config"]["scaling_factor"] == values["latent_statistics"]["scaling_factor"] == 1.0
    assert {file["name"] for file in values["files"]} == {path.name for path in bundle.iterdir()} - {"manifest.json"}
    assert all(file["size_bytes"] == (bundle / file["name"]).stat().st_size for file in values["files"])
    (graph,) = values["components"]["decoder"]["graphs"]
    assert graph["inputs"] == [
        {"name": "latents", "dtype": "float32", "shape": ["batch", 4, "latent_height", "latent_width"]}
    ]
    assert graph["outputs"] == [{"name": "sample", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}]
    assert (graph["opset"], graph["dtype"], graph["causal"]) == (18, "float32", None)


def test_a_bundle_may_be_moved_and_reached_through_a_link(bundle: Path, tmp_path: Path) -> None:
    moved = bundle.rename(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(moved)
    Manifest.open(moved).verify_hashes()
    Manifest.open(tmp_path / "link").verify_hashes()


def test_what_is_no_bundle_is_refused(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    refuse(tmp_path / "nothing", "is not a bundle: there is no such folder; make one with `latentrt export`")
    refuse(tmp_path, "it holds no manifest.json")
    refuse(checkpoint_of(SMALL), "it holds no manifest.json")
    (tmp_path / "file").write_text("{}")
    refuse(tmp_path / "file", "cannot read|is not a bundle")


def test_a_folder_that_is_still_being_written_does_not_open(bundle: Path, tmp_path: Path) -> None:
    refuse(bundle.rename(tmp_path / ".bundle.0123abcd.partial"), "the rest of an interrupted export, not a bundle")


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "encoder.safetensors", "decoder.safetensors"])
def test_a_missing_or_truncated_file_is_found_when_the_bundle_is_opened(name: str, bundle: Path) -> None:
    path = bundle / name
    whole = path.read_bytes()
    for size in (len(whole) - 1, 0):
        path.write_bytes(whole[:size])
        refuse(bundle, rf"{name} has {size} bytes and the manifest says {len(whole)}: it is truncated or altered")
    path.unlink()
    refuse(bundle, f"is incomplete: {name} is missing")
    path.mkdir()
    refuse(bundle, f"is incomplete: {name} is missing")


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.safetensors"])
def test_an_altered_file_of_the_same_size_is_found_by_its_hash(name: str, bundle: Path) -> None:
    Manifest.open(bundle).verify_hashes()
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    manifest = Manifest.open(bundle)
    with pytest.raises(BundleError, match=rf"{name} was altered: its SHA-256 is not the manifest's"):
        manifest.verify_hashes()
    with pytest.raises(BundleError, match="was altered"):
        manifest.verify_hash(name)
    with pytest.raises(BundleError, match="was altered"):
        manifest.verify_hash("stranger.bin")


def test_names_that_lead_out_of_the_folder_are_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    shutil.copy(bundle / "encoder.safetensors", outside)
    original = (bundle / "manifest.json").read_text()
    (bundle / "in").mkdir()
    for name in (
        str(outside),
        "../outside.safetensors",
        "in/../../outside.safetensors",
        "in/../encoder.safetensors",
        "C:\\outside.safetensors",
        "..\\outside.safetensors",
        "",
    ):
        (bundle / "manifest.json").write_text(original.replace('"encoder.safetensors"', json.dumps(name)))
        refuse(bundle, "which lies outside the bundle; refused")


@pytest.mark.parametrize("name", ["encoder\0.safetensors", "\x1b[2J", "x" * 5000, "a/" * 3000 + "b", "\ud800", "a\nb"])
def test_names_that_no_file_has_are_refused(name: str, bundle: Path) -> None:
    original = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(original.replace('"encoder.safetensors"', json.dumps(name)))
    refuse(bundle, "which is no name of a file; refused")


def test_links_that_lead_out_of_the_folder_are_refused(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "encoder.safetensors"
    outside = path.rename(tmp_path / "outside.safetensors")
    path.symlink_to(outside)
    refuse(bundle, "'encoder.safetensors', which lies outside the bundle; refused")
    path.unlink()
    path.symlink_to(path)
    refuse(bundle, "outside the bundle|is missing")
    path.unlink()
    (bundle / "aside").mkdir()
    outside.rename(bundle / "aside" / "weights")
    path.symlink_to("aside/weights")
    Manifest.open(bundle)  # a link that stays inside is no danger


def test_a_newer_schema_says_so(bundle: Path) -> None:
    edit(bundle, lambda values: values.update(schema_version=SCHEMA_VERSION + 1, components="who knows"))
    refuse(
        bundle, f"has manifest schema {SCHEMA_VERSION + 1}, and this latentrt .* reads 1 to {SCHEMA_VERSION}: a later"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", "[" * 100_000, '{"schema_version": ', "\xff\xfe"])
def test_a_manifest_that_is_not_one_is_refused(text: str, bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    refuse(bundle, "is not a manifest|cannot read")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_truncated_manifest_is_refused(cut: float, bundle: Path) -> None:
    content = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(content[: int(len(content) * cut)])
    refuse(bundle, "is not a manifest")


def test_a_field_that_is_missing_or_of_the_wrong_kind_is_refused(bundle: Path) -> None:
    original = json.loads((bundle / "manifest.json").read_text())
    wrong: list[Any] = [None, 7, "x", [], {}, [None], {"x": None}, float("inf"), 10**400]
    for key in ("config", "components", "files", "produced_by"):
        for value in wrong:
            if (key, value) in (("produced_by", {}), ("produced_by", [])):
                continue
            if key == "components" and value == {}:
                continue  # a bundle without components opens, and says so when one is asked for
            if key == "produced_by" and value == {"x": None}:
                continue
            (bundle / "manifest.json").write_text(json.dumps(original | {key: value}))
            with pytest.raises(BundleError) as caught:
                Manifest.open(bundle)
            assert "\n" not in str(caught.value), (key, value)
    graph = original["components"]["encoder"]["graphs"][0]
    for key in ("file", "weights", "dtype", "opset", "causal", "inputs", "outputs"):
        kept = graph.pop(key)
        (bundle / "manifest.json").write_text(json.dumps(original))
        refuse(bundle, "a field is missing or of the wrong kind")
        graph[key] = kept
    graph["file"] = "unlisted.onnx"
    (bundle / "manifest.json").write_text(json.dumps(original))
    refuse(bundle, "not among the files")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "cases"), [(SMALL, 60), ("ltx20", 40)])
def test_a_damaged_manifest_is_refused_or_changes_no_pixel(
    name: str, cases: int, bundle_of: Callable[[str], Path]
) -> None:
    """`python tests/support/fuzz_manifest.py BUNDLE 10000 0` runs as many as you like, and measures memory."""
    assert failures(bundle_of(name), cases, 0, seconds=30) == []


@pytest.mark.long
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", [SMALL, "ltx20"])
def test_many_damaged_manifests(name: str, backend: str, bundle_of: Callable[[str], Path]) -> None:
    assert failures(bundle_of(name), 150, 1000, backend, seconds=60) == []


def test_the_fuzzer_sees_other_pixels_and_foreign_errors(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = results(bundle, "onnxruntime")
    assert failure(bundle, "onnxruntime", wanted, 60) is None
    changed = wanted | {"decode": wanted["decode"] + 1}
    assert failure(bundle, "onnxruntime", changed, 60) == "other pixels: decode"
    monkeypatch.setattr(Manifest, "check_graph", lambda *_: [][0])
    assert "IndexError" in (failure(bundle, "onnxruntime", wanted, 60) or "")


DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "two graphs swapped": (
        "is that of another graph",
        lambda values: swap(values["components"]["decoder"]["segments"], 1, 5, "file"),
    ),
    "a stage reads another one": (
        "does not follow the stage before it",
        lambda values: values["components"]["decoder"]["segments"][5]["segment"].update(source=2),
    ),
    "a stage adds another result": (
        "does not add the result",
        lambda values: values["components"]["decoder"]["segments"][6]["segment"].update(skip=0),
    ),
    "a stage scales": (
        "do not scale as the model does",
        lambda values: values["components"]["decoder"]["segments"][1]["segment"].update(up=2),
    ),
    "another family": ("different classes", lambda values: values.update(family="AutoencoderKLFlux2")),
    "other statistics": ("scaling_factor differs", lambda values: values["latent_statistics"].update(scaling_factor=2)),
    "another width": (
        "outputs are not those of the config",
        lambda values: values["config"].update(latent_channels=8),
    ),
    "a name that is no name": (
        "of the wrong kind",
        lambda values: values["components"]["decoder"]["graphs"][0]["inputs"][0].update(name="a\0b"),
    ),
    "an axis of no call": (
        "has an axis 'depth'",
        lambda values: values["components"]["decoder"]["graphs"][0]["inputs"][0].update(
            shape=["batch", 4, "depth", "latent_width"]
        ),
    ),
    "a shape without axes": (
        "of the wrong kind",
        lambda values: values["components"]["decoder"]["segments"][7]["outputs"][0].update(shape=[]),
    ),
    "a hash that is none": ("is no hash", lambda values: values["files"][0].update(sha256="0")),
    "a huge size": ("of the wrong kind", lambda values: values["files"][0].update(size_bytes=10**30)),
    "a report that is none": (
        "a report is no object",
        lambda values: values.update(verification=[1], verifications=None),
    ),
    "a third component": (
        "has no component 'x'",
        lambda values: values["components"].update(x=values["components"]["decoder"]),
    ),
    "a graph twice": (
        "another graph like it",
        lambda values: values["components"]["decoder"]["graphs"].append(values["components"]["decoder"]["graphs"][0]),
    ),
}


def swap(entries: list[dict[str, Any]], one: int, other: int, key: str) -> None:
    entries[one][key], entries[other][key] = entries[other][key], entries[one][key]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_manifest_that_contradicts_itself_is_refused(kind: str, bundle: Path) -> None:
    reason, damage = DAMAGES[kind]
    edit(bundle, damage)
    refuse(bundle, f"manifest.json is damaged: .*{reason}")


def test_a_component_that_was_not_exported_is_named(bundle: Path) -> None:
    edit(bundle, lambda values: values["components"].pop("decoder"))
    with open_bundle(bundle, threads=1) as vae:
        vae.warmup([(1, 3, 8, 8)])
        with pytest.raises(BundleError, match=r"holds no decoder .*--component decoder"):
            vae.decode(np.zeros((1, 4, 8, 8), np.float32))


def test_an_unreadable_manifest_is_refused(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").mkdir()
    refuse(bundle, "cannot read .*manifest.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", [[]]),
        ("opset", "18"),
        ("causal", 0),
        ("file", 5),
        ("inputs", [{"name": "latents", "dtype": 1, "shape": []}]),
        ("inputs", [{"name": "latents", "dtype": "float32", "shape": [1.5]}]),
        ("inputs", [{"name": "latents", "dtype": "float32", "shape": [None]}]),
    ],
)
def test_fields_of_a_graph_have_their_kind(key: str, value: Any, bundle: Path) -> None:
    edit(bundle, lambda values: values["components"]["decoder"]["graphs"][0].update({key: value}))
    refuse(bundle, "is damaged")


def test_a_component_without_the_precision_of_the_other_is_said(bundle: Path) -> None:
    edit(bundle, lambda values: values["components"]["decoder"]["graphs"][0].update(dtype="float16"))
    with (
        open_bundle(bundle, backend="onnxruntime", threads=1) as vae,
        pytest.raises(BundleError, match="holds no decoder in float32"),
    ):
        vae.decode(np.zeros((1, 4, 8, 8), np.float32))


@pytest.mark.parametrize("key", ["index", "lead", "multiple", "ratio"])
@pytest.mark.parametrize("value", [None, -1, 1.0, "../x", 10**18])
def test_stages_of_a_stream_have_plain_numbers(
    key: str, value: Any, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of("ltx20"), tmp_path / "bundle"))
    edit(folder, lambda values: values["components"]["decoder"]["streams"][0]["stage"].update({key: value}))
    refuse(folder, "is damaged")


@pytest.mark.parametrize(("name", "kind"), [("ltx20", "streams"), (SMALL, "segments")])
def test_parts_of_a_chain_are_all_there_once(
    name: str, kind: str, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_of(name), tmp_path / "bundle"))
    whole = json.loads((folder / "manifest.json").read_text())

    def change(part: Callable[[list[Any]], None]) -> None:
        values = json.loads(json.dumps(whole))
        part(values["components"]["decoder"][kind])
        (folder / "manifest.json").write_text(json.dumps(values))

    for damage in (
        lambda parts: parts.append(parts[-1]),
        lambda parts: parts[0].update(stage=None, segment=None),
    ):
        change(damage)
        refuse(folder, "is damaged")
    change(lambda parts: parts.pop(1))
    if kind == "streams":
        refuse(folder, "is damaged")
        return
    with open_bundle(folder, backend="onnxruntime", threads=1) as vae:
        assert isinstance(vae, AutoencoderKL)
        vae.enable_tiling(exact=True)
        with pytest.raises(BundleError, match="lacks step 1 of the decoder's strips"):
            vae.decode(np.zeros((1, 4, 64, 64), np.float32))


def test_the_manifest_names_strips_as_bundles_before_did(bundle: Path) -> None:
    graphs = json.loads((bundle / "manifest.json").read_text())["components"]["decoder"]["segments"]
    assert [graph["segment"]["index"] for graph in graphs] == list(range(len(graphs)))
    assert all("strip_stage" not in graph for graph in graphs)
    assert [graph["file"] for graph in graphs] == [
        graph.file for graph in Manifest.open(bundle).find_strip_graphs("decoder")
    ]
