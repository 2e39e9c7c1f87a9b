"""What goes to another process, and what says why it cannot."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import latentrt.runtime
from latentrt.runtime import CancelToken, LatentRTError, errors
from latentrt.runtime.backends.component import NotFinite
from latentrt.runtime.config.kl import MissingScalingFactor

WAYS: list[Callable[[Any], Any]] = [pickle.dumps, copy.copy, copy.deepcopy]


@pytest.mark.parametrize("name", ["sd", "ltx20"])
@pytest.mark.parametrize("way", WAYS)
def test_an_open_bundle_says_to_open_it_there(name: str, way: Callable[[Any], Any], opened: Callable[..., Any]) -> None:
    vae = opened(name)
    with pytest.raises(TypeError, match=r"cannot be pickled or copied: send the path .* with open_bundle\('.*'\)"):
        way(vae)
    with pytest.raises(TypeError, match="send the path to the other process"):
        way(vae.decode.__self__)
    with pytest.raises(TypeError, match="open the bundle by its path in the other process"):
        pickle.dumps(vae.opened)


@pytest.mark.parametrize("way", WAYS)
def test_a_cancel_token_says_to_make_one_there(way: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="make one in the process that makes the call"):
        way(CancelToken())


def test_every_error_keeps_its_message() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LatentRTError)]
    made: list[Exception] = [kind("wanted this, got that") for kind in kinds]
    made += [NotFinite(3, 12), MissingScalingFactor("which factor", ("shift_factor",))]
    for error in made:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_results_plans_and_settings_come_back_equal(opened: Callable[..., Any]) -> None:
    vae = opened("sd")
    decoded = vae.decode(np.zeros((1, vae.config.latent_channels, 4, 4), np.float32))
    encoded = vae.encode(np.zeros((1, 3, 32, 32), np.float32))
    there_and_back = pickle.loads(pickle.dumps((decoded, encoded, vae.config, vae.settings, vae.manifest, vae.grid)))
    assert np.array_equal(there_and_back[0].sample, decoded.sample)
    assert there_and_back[0].ran == decoded.ran
    assert np.array_equal(there_and_back[1].latent_dist.parameters, encoded.latent_dist.parameters)
    assert there_and_back[2:] == (vae.config, vae.settings, vae.manifest, vae.grid)
    for options in (latentrt.runtime.OnnxRuntimeOptions({"a": 1}), latentrt.runtime.BackendCapabilities()):
        assert pickle.loads(pickle.dumps(options)) == options
