"""Golden samples of an export: small, always the same, and the results of the reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ALL

from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.samples.golden_file import write_golden_samples
from latentrt.export.samples.sample_inputs import component_inputs
from latentrt.export.verify.reference import Reference
from latentrt.runtime.arrays.pixels import to_samples
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.selftest.golden_samples import MOST_BYTES, GoldenSamples

BOTH = ("encoder", "decoder")


@pytest.mark.parametrize("name", ["sd", "flux2", "ltx20", "noise_timestep"])
def test_the_results_are_those_of_the_reference_with_all_weights_in_memory(
    name: str, bundle_of: Callable[[str], Path], checkpoint_of: Callable[[str], Path]
) -> None:
    golden = GoldenSamples.of(Manifest.open(bundle_of(name)))
    assert golden is not None
    reference = Reference(open_checkpoint(checkpoint_of(name)).with_statistics())
    for sample in golden.samples:
        for causal, output in sample.outputs.items():
            if sample.component == "encoder":
                result = reference.encode(to_samples(sample.input), causal)
            else:
                result = reference.decode(sample.input, causal)
            assert output.psnr_db(result) > 105, (sample.component, sample.number)


def test_two_exports_hold_the_same_bytes_on_any_number_of_threads(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(checkpoint_of("sd"))
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            (tmp_path / str(threads)).mkdir()
            found.append(write_golden_samples(tmp_path / str(threads), checkpoint, BOTH))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_samples_of_every_family_are_within_the_limit_of_a_bundle(bundle_of: Callable[[str], Path]) -> None:
    for name in ("sd", "ltx20"):
        path = bundle_of(name) / str(Manifest.open(bundle_of(name)).samples)
        assert path.stat().st_size <= MOST_BYTES
    wide = ALL["ltx20"] | {"latent_channels": 128}
    config = config_from_dict(wide)
    inputs = [array.nbytes for component in BOTH for array in component_inputs(config, component)]
    assert sum(inputs) < 5 * MOST_BYTES / 6, "at the channels of LTX-2, a sixth is left for results"


def test_latents_have_the_range_of_real_latents() -> None:
    config = config_from_dict(ALL["playground"])
    assert config.latents_std is not None
    assert config.latents_mean is not None
    latents = list(component_inputs(config, "decoder"))[1]
    expected = np.array(config.latents_std) / 0.5
    assert np.allclose(latents.std(axis=(0, 2, 3)), expected, rtol=0.35)
    assert np.allclose(latents.mean(axis=(0, 2, 3)), config.latents_mean, atol=float(max(expected)) / 2)


def test_extra_causalities_have_results_of_their_own(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(checkpoint_of("ltx20")).with_statistics()
    entry = write_golden_samples(tmp_path, checkpoint, ("decoder",), causal=(True,))
    assert entry.size_bytes <= MOST_BYTES
    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / entry.name)
    own, other = tensors["decoder.1.output.non_causal"], tensors["decoder.1.output.causal"]
    assert own.shape == other.shape
    assert not np.allclose(own, other)
