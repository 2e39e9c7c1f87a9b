"""A workflow of ComfyUI as an SVG file: nodes with their inputs, outputs and settings, and the links between them."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Node", "draw_graph"]

WIDTH, TITLE, LINE, PICTURE = 200, 26, 20, 150  # pixels: a node, its title, one line, a picture
COLUMN, MARGIN = 250, 20
COLOURS = {"IMAGE": "#64b5f6", "LATENT": "#e06cc0", "VAE": "#e57373"}
NAMES = {"pixels": "IMAGE", "images": "IMAGE", "samples": "LATENT", "vae": "VAE"}
OTHER = "#9ccc65"


@dataclass(frozen=True, eq=False)
class Node:
    """One node.

    Attributes:
        title: its title.
        inputs: names of the inputs that links lead to.
        outputs: names of its outputs.
        place: column and row.
        settings: the values of its widgets, by name.
        picture: what it shows, uint8 (H, W, 3).
        ours: whether it belongs to the pack.
    """

    title: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    place: tuple[int, int] = (0, 0)
    settings: Mapping[str, str] = field(default_factory=dict)
    picture: np.ndarray | None = None
    ours: bool = False

    def at(self, place: tuple[int, int], settings: Mapping[str, str]) -> "Node":
        """The node at another place, with these settings."""
        return replace(self, place=place, settings=settings)

    @property
    def height(self) -> int:
        """Height in pixels."""
        lines = max(len(self.inputs), len(self.outputs)) + len(self.settings)
        return TITLE + lines * LINE + (PICTURE + 10 if self.picture is not None else 0) + 10


def draw_graph(path: Path, nodes: Mapping[str, Node], links: Iterable[tuple[str, str, str, str]]) -> None:
    """Write a workflow as an SVG file.

    Args:
        path: the file.
        nodes: the nodes by their keys.
        links: an output of a node and an input of another: key, output, key, input.
    """
    rows = 1 + max(node.place[1] for node in nodes.values())
    heights = [max(node.height for node in nodes.values() if node.place == (0, row)) for row in range(rows)]
    tops = [MARGIN + sum(heights[:row]) + row * MARGIN for row in range(rows)]
    corners = {key: (MARGIN + node.place[0] * COLUMN, tops[node.place[1]]) for key, node in nodes.items()}
    width = max(left for left, _ in corners.values()) + WIDTH + MARGIN
    height = max(top + nodes[key].height for key, (_, top) in corners.items()) + MARGIN
    fonts = 'font-family="sans-serif" font-size="12"'
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" {fonts}>',
        f'<rect {size} fill="#222"/>',
    ]
    for source, output, target, name in links:
        start = _port(nodes[source], corners[source], output, is_input=False)
        end = _port(nodes[target], corners[target], name, is_input=True)
        bend = max(40, (end[0] - start[0]) // 2)
        curve = f"M{start[0]} {start[1]} C{start[0] + bend} {start[1]} {end[0] - bend} {end[1]} {end[0]} {end[1]}"
        parts.append(f'<path d="{curve}" fill="none" stroke="{_colour(output)}" stroke-width="2"/>')
    for key, node in nodes.items():
        parts += _drawn(node, corners[key])
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _port(node: Node, corner: tuple[int, int], name: str, *, is_input: bool) -> tuple[int, int]:
    place = (node.inputs if is_input else node.outputs).index(name)
    return corner[0] + (0 if is_input else WIDTH), corner[1] + TITLE + 12 + place * LINE


def _colour(name: str) -> str:
    return COLOURS.get(NAMES.get(name, name), OTHER)


def _drawn(node: Node, corner: tuple[int, int]) -> list[str]:
    left, top = corner
    title = "#35506b" if node.ours else "#444"
    parts = [
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{node.height}" rx="6" fill="#353535" stroke="#111"/>',
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{TITLE - 4}" rx="6" fill="{title}"/>',
        f'<text x="{left + 10}" y="{top + 16}" fill="#eee">{escape(node.title)}</text>',
    ]
    for is_input, names in ((True, node.inputs), (False, node.outputs)):
        for name in names:
            x, y = _port(node, corner, name, is_input=is_input)
            shift, anchor = (10, "start") if is_input else (-10, "end")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{_colour(name)}"/>')
            parts.append(f'<text x="{x + shift}" y="{y + 4}" fill="#bbb" text-anchor="{anchor}">{escape(name)}</text>')
    line = top + TITLE + max(len(node.inputs), len(node.outputs)) * LINE
    for name, value in node.settings.items():
        parts.append(f'<text x="{left + 10}" y="{line + 16}" fill="#999">{escape(name)}</text>')
        parts.append(
            f'<text x="{left + WIDTH - 10}" y="{line + 16}" fill="#ddd" text-anchor="end">{escape(value)}</text>'
        )
        line += LINE
    if node.picture is not None:
        data = _jpeg(node.picture)
        x = left + (WIDTH - PICTURE) // 2
        parts.append(f'<image x="{x}" y="{line + 6}" width="{PICTURE}" height="{PICTURE}" href="{data}"/>')
    return parts


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels).resize((2 * PICTURE, 2 * PICTURE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
