"""Names of graph inputs, outputs and axes stand in `ports` alone, and stay what bundles have always had."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentrt.runtime.bundle import ports

ROOT = Path(__file__).parents[3]
PORTS = ROOT / "runtime" / "bundle" / "ports.py"
NAMES = {name for key in ports.__all__ if isinstance(name := getattr(ports, key), str)} | set(ports.SIDES)
# Words that mean nothing else in this project. The others are also arguments, JSON keys or units of progress.
DISTINCTIVE = {
    ports.ROW_MEAN,
    ports.ROW_VARIANCE,
    ports.NOT_FINITE,
    ports.RESULT_FRAMES,
    ports.RESULT_ROWS,
    ports.RESULT_COLUMNS,
    *map(ports.latent_axis, ports.sample_axes(video=True)),
}
PREFIXES = re.compile(r"(state_(\d|$)|next_|noise_(mid|up)_block)")
HOLDERS = {"ranges", "inputs", "outputs", "shapes", "axes"}


def literal_ports(source: str) -> list[str]:
    """The names of ports that stand as literals in a module, each with its line."""
    return sorted({f"{node.lineno}: {node.value!r}" for node in _literals(ast.parse(source))})


def _literals(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text in DISTINCTIVE or PREFIXES.match(text):
                yield node
            case ast.Subscript(value=held, slice=ast.Constant(value=str(text)) as key) if text in NAMES:
                if _name(held) in HOLDERS:
                    yield key
            case ast.Compare(left=left, comparators=[*others]):
                if any(_name(side) == "name" for side in (left, *others)):
                    for side in (left, *others):
                        yield from _names_in(side)
            case ast.Call(func=called):
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                if _name(called) in {"TensorSpec", "shape_for", "step", "run"}:
                    yield from (one for argument in arguments for one in _names_in(argument))
                if _name(called) == "get" and isinstance(called, ast.Attribute) and _name(called.value) in HOLDERS:
                    yield from _names_in(node.args[0])
            case _:
                pass


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names_in(node: ast.AST) -> Iterator[ast.Constant]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and inner.value in NAMES:
            yield inner


def test_no_other_module_spells_the_name_of_a_port() -> None:
    modules = [
        path for room in ("runtime", "export", "integrations", "cli", "tiling") for path in (ROOT / room).rglob("*.py")
    ]
    assert len(modules) > 200
    found = {str(path.relative_to(ROOT)): literal_ports(path.read_text("utf-8")) for path in modules if path != PORTS}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        'name.startswith("state_")',
        'f"next_{name}"',
        'f"noise_up_block_{block - 1}"',
        'TensorSpec("tile", "float32", shape)',
        'TensorSpec(name, "float32", ("batch", 3))',
        'profile.ranges["first"]',
        'profile.ranges.get("keys")',
        'outputs["result"]',
        'tensor.name == "last"',
        'tensor.shape_for({"batch": 1})',
        'component.step({"chunk": frames}, call=call)',
    ],
)
def test_a_literal_port_is_found(source: str) -> None:
    assert len(literal_ports(source)) == 1


@pytest.mark.parametrize(
    "source", ['progress("frames", 1, 2)', 'require(sample, "sample")', '{"batch": 1}', "ports.CHUNK"]
)
def test_the_same_words_elsewhere_are_not_ports(source: str) -> None:
    assert literal_ports(source) == []


def test_ports_keep_the_names_that_bundles_have() -> None:
    assert (ports.state(0), ports.state(12), ports.next_state(ports.state(3))) == (
        "state_00",
        "state_12",
        "next_state_03",
    )
    assert ports.state_of_next("next_state_03") == "state_03"
    assert ports.state_of_next(ports.RESULT) == "result"
    assert [ports.noise_input(block) for block in range(3)] == [
        "noise_mid_block",
        "noise_up_block_0",
        "noise_up_block_1",
    ]
    assert ports.noise_axes(1) == ("noise_up_block_0_height", "noise_up_block_0_width")
    assert ports.whole_axes(2, (9, 64, 32), (2, 2, 1)) == {
        "batch": 2,
        "frames": 9,
        "height": 64,
        "width": 32,
        "latent_frames": 2,
        "latent_height": 2,
        "latent_width": 1,
    }
    assert ports.stream_axes(1, (2, 3), 8) == {"batch": 1, "height": 2, "width": 3, "frames": 8}
    assert ports.MAIN_INPUT == {"encoder": "sample", "decoder": "latents"}
