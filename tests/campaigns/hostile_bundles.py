"""Hostile bundles: each is made from the demo's picture bundle, and then opened and run."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from latentrt.runtime import open_bundle
from latentrt.runtime.bundle.manifest import MANIFEST_NAME, Manifest

from .material import Material
from .watch import Outside

__all__ = ["BUNDLE_ATTACKS", "make_bundle"]

Attack = Callable[[Path, Outside, Random], None]
"""Makes the bundle in a folder hostile."""

_WEIGHTS = "decoder.safetensors"
_GRAPHS = ("decoder.onnx", "decoder.cpu.onnx")


def make_bundle(attack: str, material: Material, place: Path, outside: Outside, random: Random) -> Callable[[], None]:
    """Make a hostile bundle. The result opens it, runs it, and checks it as `inspect --verify` does."""
    bundle = place / "bundle"
    shutil.copytree(material.image_bundle, bundle)
    BUNDLE_ATTACKS[attack](bundle, outside, random)
    backend: Any = random.choice(["onnxruntime", "openvino"])

    def read() -> None:
        with open_bundle(bundle, backend=backend, threads=1) as vae:
            vae.decode(np.zeros((1, vae.config.latent_channels, 4, 4), np.float32))
        Manifest.open(bundle).verify_hashes()

    return read


def _named(name: Callable[[Path, Outside, Random], str]) -> Attack:
    """The manifest gives another name for the weights, wherever it names them."""

    def attack(bundle: Path, outside: Outside, random: Random) -> None:
        new = name(bundle, outside, random)
        path = bundle / MANIFEST_NAME
        path.write_text(path.read_text().replace(json.dumps(_WEIGHTS), json.dumps(new)))

    return attack


def _relative(bundle: Path, outside: Outside, random: Random) -> str:
    up = os.path.relpath(outside.secret, bundle)
    return random.choice([up, f"./{up}", f"a/../{up}", f"sub/../../bundle/{up}", up.replace("/", "\\"), f"{up}\0"])


def _replaced(make: Callable[[Path, Outside, Random], None], *names: str) -> Attack:
    """Files of the bundle are replaced by something else; one of `names`, or all graphs."""

    def attack(bundle: Path, outside: Outside, random: Random) -> None:
        for name in names:
            (bundle / name).unlink()
            make(bundle / name, outside, random)

    return attack


def _link(path: Path, outside: Outside, random: Random) -> None:
    targets = [
        str(outside.secret),
        os.path.relpath(outside.secret, path.parent),
        "/proc/self/mem",
        "/dev/zero",
        path.name,
    ]
    path.symlink_to(random.choice(targets))


def _fifo(path: Path, outside: Outside, random: Random) -> None:
    os.mkfifo(path)


def _folder(path: Path, outside: Outside, random: Random) -> None:
    path.mkdir()


def _sparse(path: Path, outside: Outside, random: Random) -> None:
    with path.open("wb") as file:
        file.truncate(random.choice([3 << 30, 1 << 36, 1 << 40]))


def _folder_link(bundle: Path, outside: Outside, random: Random) -> None:
    (bundle / "sub").symlink_to(outside.folder)
    _named(lambda *_: f"sub/{outside.secret.name}")(bundle, outside, random)


def _nested(bundle: Path, outside: Outside, random: Random) -> None:
    depth = random.choice([100, 2000, 100_000])
    (bundle / MANIFEST_NAME).write_text(random.choice(["[", '{"a":']) * depth)


def _many_entries(bundle: Path, outside: Outside, random: Random) -> None:
    values = json.loads((bundle / MANIFEST_NAME).read_bytes())
    values[random.choice(["files", "engines"])] = [{"name": f"{number}"} for number in range(200_000)]
    (bundle / MANIFEST_NAME).write_text(json.dumps(values))


def _engine(bundle: Path, outside: Outside, random: Random) -> None:
    values = json.loads((bundle / MANIFEST_NAME).read_bytes())
    texts = ("component", "dtype", "backend", "graph", "graph_sha256", "weights_sha256", "library_version", "key")
    record: dict[str, Any] = dict.fromkeys(texts, "x") | {"causal": None, "bytes": outside.secret.stat().st_size}
    record |= {"sha256": "0" * 64, "compute_capabilities": ["8.9"], "profiles": [], "settings": {}}
    values["engines"] = [record | {"file": os.path.relpath(outside.secret, bundle)}]
    (bundle / MANIFEST_NAME).write_text(json.dumps(values))


def _graph(change: Callable[[Any, Path, Outside, Random], None]) -> Attack:
    """The graphs are changed, and the manifest has the hashes of the changed files."""

    def attack(bundle: Path, outside: Outside, random: Random) -> None:
        import onnx

        values = json.loads((bundle / MANIFEST_NAME).read_bytes())
        for name in _GRAPHS:
            model = onnx.load(str(bundle / name), load_external_data=False)
            change(model, bundle, outside, random)
            content = model.SerializeToString()
            (bundle / name).write_bytes(content)
            for entry in values["files"]:
                if entry["name"] == name:
                    entry |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (bundle / MANIFEST_NAME).write_text(json.dumps(values))

    return attack


def _external(**entries: Callable[[Path, Outside, Random], str]) -> Attack:
    """The weights of the graphs lie elsewhere: entries such as location, offset and length."""

    def change(model: Any, bundle: Path, outside: Outside, random: Random) -> None:
        drawn = {key: value(bundle, outside, random) for key, value in entries.items()}
        for tensor in model.graph.initializer:
            if tensor.data_location == tensor.EXTERNAL:
                for entry in tensor.external_data:
                    entry.value = drawn.get(entry.key, entry.value)

    return _graph(change)


def _elsewhere(bundle: Path, outside: Outside, random: Random) -> str:
    link = bundle / "link.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(outside.secret)
    up = os.path.relpath(outside.secret, bundle)
    return random.choice(
        [up, str(outside.secret), "link.bin", f"./{up}", "/dev/zero", "/proc/self/mem", "encoder.safetensors"]
    )


def _number(bundle: Path, outside: Outside, random: Random) -> str:
    return random.choice(["-1", "-5", str(10**12), str(2**63), str(2**64 + 8), "1e3", "", "x", "4", "9" * 5000])


def _in_attribute(model: Any, bundle: Path, outside: Outside, random: Random) -> None:
    """A constant node, plain or inside a branch, whose value lies outside."""
    import onnx
    from onnx import TensorProto, helper

    tensor = TensorProto(name="hidden", data_type=1, dims=[16], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=os.path.relpath(outside.secret, bundle))
    constant = helper.make_node("Constant", [], ["hidden"], value=tensor)
    if random.random() < 0.5:
        output = helper.make_tensor_value_info("hidden", 1, [16])
        branch = helper.make_graph([constant], "branch", [], [output])
        condition = helper.make_node("Constant", [], ["condition"], value=helper.make_tensor("c", 9, [], [True]))
        choice = helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch)
        model.graph.node.extend([condition, choice])
    else:
        model.graph.node.append(constant)
    assert isinstance(model, onnx.ModelProto)


def _expanding(model: Any, bundle: Path, outside: Outside, random: Random) -> None:
    """The result is multiplied by the mean of an array of hundreds of gigabytes."""
    from onnx import helper

    side = random.choice([200_000, 1_000_000])
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if output == name else output for output in node.output]
    model.graph.node.extend(
        [
            helper.make_node("Constant", [], ["sides"], value=helper.make_tensor("s", 7, [3], [side, side, 3])),
            helper.make_node("Constant", [], ["one"], value=helper.make_tensor("o", 1, [], [1.0])),
            helper.make_node("Expand", ["one", "sides"], ["huge"]),
            helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=0),
            helper.make_node("Mul", [f"{name}_before", "mean"], [name]),
        ]
    )


def _own_operator(model: Any, bundle: Path, outside: Outside, random: Random) -> None:
    """A node of an unknown operator, or of one that runs Python."""
    from onnx import helper

    kind = random.choice(["PyOp", "EPContext", "CustomOp"])
    domain = random.choice(["", "com.microsoft", "evil"])
    library = helper.make_node(kind, [], ["own"], domain=domain, ep_cache_context=str(outside.secret), embed_mode=0)
    model.graph.node.append(library)


def _to(target: Path) -> Attack:
    def attack(bundle: Path, outside: Outside, random: Random) -> None:
        (bundle / MANIFEST_NAME).unlink()
        (bundle / MANIFEST_NAME).symlink_to(target)

    return attack


BUNDLE_ATTACKS: Mapping[str, Attack] = {
    "bundle_name_outside": _named(_relative),
    "bundle_name_absolute": _named(lambda bundle, outside, random: str(outside.secret)),
    "bundle_name_odd": _named(
        lambda b, o, random: random.choice(["", ".", "..", "/", "CON", "a" * 300, "\ud800", "-o"])
    ),
    "bundle_weights_link": _replaced(_link, _WEIGHTS),
    "bundle_weights_fifo": _replaced(_fifo, _WEIGHTS),
    "bundle_weights_folder": _replaced(_folder, _WEIGHTS),
    "bundle_weights_sparse": _replaced(_sparse, _WEIGHTS),
    "bundle_graph_link": _replaced(_link, *_GRAPHS),
    "bundle_graph_fifo": _replaced(_fifo, *_GRAPHS),
    "bundle_graph_sparse": _replaced(_sparse, *_GRAPHS),
    "bundle_folder_link": _folder_link,
    "bundle_manifest_fifo": _replaced(_fifo, MANIFEST_NAME),
    "bundle_manifest_sparse": _replaced(_sparse, MANIFEST_NAME),
    "bundle_manifest_device": _to(Path("/dev/zero")),
    "bundle_manifest_nested": _nested,
    "bundle_manifest_long": _many_entries,
    "bundle_engine_outside": _engine,
    "graph_location": _external(location=_elsewhere),
    "graph_offset": _external(offset=_number),
    "graph_length": _external(length=_number),
    "graph_attribute": _graph(_in_attribute),
    "graph_expanding": _graph(_expanding),
    "graph_own_operator": _graph(_own_operator),
}
"""Hostile changes of a bundle."""
