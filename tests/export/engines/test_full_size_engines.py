"""Engines of models at full width, with random weights: what `latentrt build` makes for users."""

from pathlib import Path
from typing import Any

import pytest
from architectures import KL_BASE, diffusers_model

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.engines.build import build_engines
from latentrt.export.engines.settings import BuildSettings, Extent

pytestmark = pytest.mark.long

FULL_WIDTH: dict[str, Any] = KL_BASE | {"block_out_channels": [128, 256, 512, 512]}
TILE = Extent(1, 512, 512, 1)


def test_the_decoder_of_stable_diffusion_becomes_an_engine_for_tiles(tmp_path: Path) -> None:
    diffusers_model(FULL_WIDTH).save_pretrained(tmp_path / "checkpoint")
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportSettings(components=("decoder",)))
    (one,) = build_engines(
        tmp_path / "bundle",
        BuildSettings("tensorrt-rtx", tiles=(TILE,), components=("decoder",), compute_capabilities=("8.9",)),
    )
    one.record.check_file(tmp_path / "bundle")
    weights = (tmp_path / "bundle" / "decoder.safetensors").stat().st_size
    assert (tmp_path / "bundle" / one.record.file).stat().st_size > weights / 2
