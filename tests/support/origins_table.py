"""The table of origins, as docs/reference/origins.md shows it."""

from latentrt.runtime.arrays.latent_form import Layout
from latentrt.runtime.config.families import FAMILIES
from latentrt.runtime.media.named_origin import NamedOrigin, origins_of

__all__ = ["origins_table"]


def origins_table() -> str:
    """A table of Markdown: one row for each family and form, with the names that have it."""
    lines = ["| family | space | shape | names |", "|---|---|---|---|"]
    for family in FAMILIES:
        rows: dict[tuple[str, str], list[NamedOrigin]] = {}
        for one in origins_of(family):
            rows.setdefault((one.form.space, _shape(one)), []).append(one)
        for (space, shape), origins in rows.items():
            names = ", ".join(f"`{one.name}`" for one in origins)
            lines.append(f"| `{family}` | {space} | {shape} | {names} |")
    return "\n".join(lines) + "\n"


def _shape(origin: NamedOrigin) -> str:
    cells = "(B, C, t, h, w)" if "LTX2" in origin.family else Layout.CELLS.value
    if "Flux2" in origin.family and origin.form.space == "diffusion":
        cells = "(B, 4 * C, h/2, w/2)"
    if origin.form.layout is None:
        return f"{cells}{'' if 'LTX2' in origin.family else ', or tokens'}"
    return cells if origin.form.layout is Layout.CELLS else origin.form.layout.value
