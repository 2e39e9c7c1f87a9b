"""Graphs that refer to anything but their weights are refused before a library sees them, whichever backend runs."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.external_data_helper import _get_all_tensors, uses_external_data
from peak_memory import peak_bytes

from latentrt.runtime import open_bundle
from latentrt.runtime.bundle.graph_contents import check_graph_file, external_tensors
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import BundleError

SMALL = "relu_one_block"
LATENTS = np.zeros((1, 4, 8, 8), np.float32)
Change = Callable[[ModelProto], None]


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small bundle of one's own, next to a file that is none of its business."""
    folder = Path(shutil.copytree(bundle_of(SMALL), tmp_path / "bundle"))
    shutil.copy(folder / "decoder.safetensors", tmp_path / "secret.safetensors")
    return folder


def rewrite(bundle: Path, content: Callable[[bytes], bytes]) -> None:
    """Change the decoder's graphs, and the manifest's hashes with them, as an attacker would."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in ("decoder.onnx", "decoder.cpu.onnx"):
        (bundle / name).write_bytes(content((bundle / name).read_bytes()))
    for file in manifest["files"]:
        path = bundle / file["name"]
        file |= {"size_bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def changed(change: Change) -> Callable[[bytes], bytes]:
    def content(old: bytes) -> bytes:
        model = ModelProto.FromString(old)
        change(model)
        return bytes(model.SerializeToString())

    return content


def entry(key: str, value: str) -> Change:
    """Set a key of the first external tensor."""

    def change(model: ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if uses_external_data(tensor))
        found = [one for one in tensor.external_data if one.key == key]
        for one in found:
            one.value = value
        if not found:
            tensor.external_data.add(key=key, value=value)

    return change


def outside(name: str = "stolen") -> TensorProto:
    """A tensor whose values lie next to the bundle."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret.safetensors"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def sparse() -> onnx.SparseTensorProto:
    indices = helper.make_tensor("indices", TensorProto.INT64, [4], [0, 1, 2, 3])
    return onnx.SparseTensorProto(values=outside(), indices=indices, dims=[4])


def subgraph() -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], initializer=[outside()])


def if_node(model: ModelProto) -> None:
    condition = helper.make_tensor("condition", TensorProto.BOOL, [], [True])
    model.graph.initializer.append(condition)
    branches = {"then_branch": subgraph(), "else_branch": subgraph()}
    model.graph.node.append(helper.make_node("If", ["condition"], ["unused"], **branches))


def function(model: ModelProto) -> None:
    node = helper.make_node("Constant", [], ["y"], value=outside())
    model.functions.append(helper.make_function("", "Stolen", [], ["y"], [node], [helper.make_opsetid("", 18)]))


def drop_location(model: ModelProto) -> None:
    del next(tensor for tensor in model.graph.initializer if uses_external_data(tensor)).external_data[:]


def drop_flag(model: ModelProto) -> None:
    next(tensor for tensor in model.graph.initializer if uses_external_data(tensor)).ClearField("data_location")


REFERENCES: dict[str, Change] = {
    "parent": entry("location", "../secret.safetensors"),
    "absolute": entry("location", "/proc/self/mem"),
    "unlisted": entry("location", "unlisted.bin"),
    "another component's weights": entry("location", "encoder.safetensors"),
    "another spelling": entry("location", "./decoder.safetensors"),
    "ONNX Runtime's name for its own memory": entry("location", "*/_ORT_MEM_ADDR_/*"),
    "no location": entry("location", ""),
    "offset beyond the end": entry("offset", "1000000000000"),
    "negative offset": entry("offset", "-8"),
    "offset that is no number": entry("offset", "0x10"),
    "short": entry("length", "4"),
    "another key": entry("basepath", "/"),
    "external without a location": drop_location,
    "a location without the flag": drop_flag,
    "an attribute": lambda model: model.graph.node.append(helper.make_node("Constant", [], ["x"], value=outside())),
    "a list of tensors": lambda model: model.graph.node[0].attribute.append(
        onnx.AttributeProto(name="x", type=onnx.AttributeProto.TENSORS, tensors=[outside()])
    ),
    "a sparse initializer": lambda model: model.graph.sparse_initializer.append(sparse()),
    "a sparse attribute": lambda model: model.graph.node.append(
        helper.make_node("Constant", [], ["x"], sparse_value=sparse())
    ),
    "a subgraph": if_node,
    "a function": function,
    "training": lambda model: model.training_info.append(onnx.TrainingInfoProto(algorithm=subgraph())),
}
CODE: dict[str, Change] = {
    "another domain": lambda model: setattr(model.graph.node[0], "domain", "com.microsoft"),
    "a compiled model": lambda model: model.graph.node.append(
        helper.make_node("EPContext", [], ["x"], ep_cache_context="../model.bin", embed_mode=0)
    ),
    "session options": lambda model: helper.set_model_props(model, {"ort_config": "{}"}),
    "an escape sequence": lambda model: setattr(model.graph.node[0], "name", "\x1b[2J"),
}


def refused(bundle: Path) -> None:
    """By the check alone, by `inspect --verify`, and when the graph is opened."""
    manifest = Manifest.open(bundle)
    with pytest.raises(BundleError, match=r"decoder\.onnx is refused") as caught:
        manifest.verify_hashes()
    assert str(caught.value).isprintable()
    with open_bundle(bundle, backend="onnxruntime", threads=1) as vae, pytest.raises(BundleError, match="is refused"):
        vae.decode(LATENTS)


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_graph_that_reads_anything_but_its_weights_is_refused(kind: str, bundle: Path) -> None:
    shutil.copy(bundle / "decoder.safetensors", bundle / "unlisted.bin")
    rewrite(bundle, changed(REFERENCES[kind]))
    refused(bundle)


@pytest.mark.parametrize("kind", CODE)
def test_a_graph_that_brings_code_or_settings_is_refused(kind: str, bundle: Path) -> None:
    rewrite(bundle, changed(CODE[kind]))
    refused(bundle)


@pytest.mark.parametrize("kind", ["parent", "a sparse attribute", "another domain"])
def test_openvino_sees_no_such_graph_either(kind: str, bundle: Path) -> None:
    rewrite(bundle, changed((REFERENCES | CODE)[kind]))
    with open_bundle(bundle, backend="openvino", threads=1) as vae, pytest.raises(BundleError, match="is refused"):
        vae.decode(LATENTS)


def test_links_to_files_outside_are_no_weights(bundle: Path, tmp_path: Path) -> None:
    (bundle / "link.bin").symlink_to(tmp_path / "secret.safetensors")
    (bundle / "folder").symlink_to(tmp_path)
    for location in ("link.bin", "folder/secret.safetensors"):
        rewrite(bundle, changed(entry("location", location)))
        refused(bundle)


def test_a_file_that_is_a_graph_to_one_library_and_another_format_to_the_next_is_refused(bundle: Path) -> None:
    """OpenVINO reads a file as its own format wherever it finds that format's first word, behind other bytes too."""
    network = b'<net name="x" version="11"><layers></layers><edges></edges></net>'
    rewrite(bundle, changed(lambda model: setattr(model, "producer_name", network.decode())))
    refused(bundle)


@pytest.mark.parametrize(
    "content",
    [
        lambda old: old[:-1],
        lambda old: old + b"\x00",
        lambda old: old + b"\x0a",
        lambda old: old + b"\xff" * 11,
        lambda old: old + old,  # a second graph, which libraries merge into the first
        lambda old: old + b"\xa2\x06\x01x",  # field 100
        lambda old: b"",
        lambda old: b"\x08\x09",
        lambda old: b"\x3a\x04" * 300,
    ],
)
def test_a_damaged_graph_is_refused(content: Callable[[bytes], bytes], bundle: Path) -> None:
    rewrite(bundle, content)
    refused(bundle)


def packed(number: int) -> bytes:
    """A protobuf number."""
    digits = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


@pytest.mark.parametrize(
    "content", [b"\x0a\x00" * 2_100_000, b"\x2a\xc4\x84\x3d\x0a\xc0\x84\x3d" + b"\x01" * 1_000_000]
)
def test_many_fields_and_dimensions_are_refused_early(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "decoder.onnx").write_bytes(b"\x3a" + packed(len(content)) + content)
    with pytest.raises(BundleError, match=r"more than 2,000,000 fields|more than 16 dimensions"):
        check_graph_file(tmp_path / "decoder.onnx", "decoder.safetensors", 1)


def test_nesting_and_size_have_limits(bundle: Path) -> None:
    inner = b""
    for _ in range(400):  # node -> attribute -> graph, in each other
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + packed(len(inner)) + inner
    rewrite(bundle, lambda _: b"\x3a" + packed(len(inner)) + inner)
    refused(bundle)
    before = peak_bytes()
    with (bundle / "large.onnx").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(BundleError, match="more than 16 MiB"):
        check_graph_file(bundle / "large.onnx", "decoder.safetensors", 1)
    assert peak_bytes() - before < 100_000_000


@pytest.mark.parametrize("name", ["*", "sub/decoder.safetensors", "decoder.bin", "-", "decoder\x1b.safetensors", "a b"])
def test_names_that_mean_something_to_a_library_are_no_weights(name: str, bundle: Path) -> None:
    with pytest.raises(BundleError, match="no file name that export gives"):
        check_graph_file(bundle / "decoder.onnx", name, 1 << 40)


def test_what_export_writes_is_read_as_onnx_reads_it(bundle_of: Callable[[str], Path]) -> None:
    for graph in Manifest.open(bundle_of(SMALL)).every_graph:
        path = bundle_of(SMALL) / graph.file
        proto = onnx.load(str(path), load_external_data=False).graph.initializer
        written = {tensor.name: {item.key: item.value for item in tensor.external_data} for tensor in proto}
        assert {
            tensor.name: {
                "location": tensor.location,
                "offset": str(tensor.offset_bytes),
                "length": str(tensor.length_bytes),
            }
            for tensor in external_tensors(path)
        } == {name: entries for name, entries in written.items() if entries}


def test_no_damage_makes_a_graph_read_another_file(bundle: Path) -> None:
    """A damaged graph that passes, and parses, names the weights alone; every other one is refused as a BundleError."""
    path, size = bundle / "decoder.onnx", (bundle / "decoder.safetensors").stat().st_size
    whole, passed = path.read_bytes(), 0
    random = Random(0)
    names = [b"decoder.safetensors", b"location", b"offset", b"length"]
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            name = random.choice(names)
            starts = [at for at in range(len(whole)) if whole.startswith(name, at)] if random.random() < 0.5 else []
            at = random.choice(starts) + random.randrange(-4, len(name)) if starts else random.randrange(len(content))
            piece = random.choice([random.randbytes(1), b"\x08\x01", b"../x", b"/etc/passwd", b"\x6a\x02\x0a\x00"])
            content[at : at + random.choice([0, len(piece)])] = piece
        path.write_bytes(content)
        try:
            check_graph_file(path, "decoder.safetensors", size)
        except BundleError:
            continue
        passed += 1
        try:
            model: Any = ModelProto.FromString(bytes(content))
        except Exception:  # not protobuf to the library either
            continue
        for tensor in _get_all_tensors(model):
            for item in tensor.external_data:
                assert item.key != "location" or item.value == "decoder.safetensors"
    assert passed


def test_a_manifest_that_lists_a_file_twice_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"].insert(0, manifest["files"][0] | {"sha256": "0" * 64})
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="listed twice"):
        Manifest.open(bundle)
