"""Public names show where users import them, in tracebacks, in `help`, and in pickles; their reprs are short."""

import inspect
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

import latentrt
import latentrt.runtime
from latentrt.runtime import LatentsFile, open_bundle
from latentrt.runtime.config.families import config_from_dict

MOST = 400  # characters of a repr


def test_every_public_name_shows_its_public_place() -> None:
    wrong = []
    for name in latentrt.runtime.__all__:
        public = getattr(latentrt.runtime, name)
        wanted = "latentrt" if name in latentrt.__all__ and inspect.isclass(public) else "latentrt.runtime"
        if public.__module__ != wanted:
            wrong.append(f"{name}: {public.__module__}")
    assert wrong == []


def test_an_error_is_written_with_its_public_place_and_survives_a_pickle() -> None:
    text = "".join(traceback.format_exception_only(latentrt.InputError("no")))
    assert text == "latentrt.InputError: no\n"
    for name in sorted({*latentrt.__all__} - {"__version__", "open_bundle"}):
        kind = getattr(latentrt, name)
        again = pickle.loads(pickle.dumps(kind("a sentence")))
        assert (type(again), str(again)) == (kind, "a sentence")


def test_reprs_are_short_and_hold_no_arrays(bundle_of: Callable[..., Path]) -> None:
    with open_bundle(bundle_of("flux2"), backend="onnxruntime") as vae:
        for part in ("AutoencoderKLFlux2", "flux2", "onnxruntime:cpu", "float32", "cpu"):
            assert part in repr(vae)
        assert "closed" not in repr(vae)
        encoded = vae.encode(np.zeros((1, 3, 16, 48), np.float32))
        decoded = vae.decode(encoded)
        vae.enable_tiling(64, 64)
        shown = [vae, vae.config, vae.manifest, encoded, encoded.latent_dist, decoded]
        shown += [vae.tile_plan("decoder", (128, 192)), LatentsFile(encoded.latent_dist.mode(), scaled=False)]
    assert "closed" in repr(vae)
    long = [repr(one) for one in shown if len(repr(one)) > MOST or "array(" in repr(one)]
    assert long == []
    assert repr(decoded) == "DecoderOutput(sample=float32 (1, 3, 16, 48), exact=True)"


def test_the_repr_of_a_config_names_what_differs_from_the_defaults() -> None:
    config = config_from_dict({"_class_name": "AutoencoderKL", "scaling_factor": 0.5})
    assert repr(config) == "AutoencoderKLConfig(scaling_factor=0.5)"
