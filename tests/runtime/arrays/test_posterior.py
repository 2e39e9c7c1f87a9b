"""The diagonal Gaussian against diffusers' DiagonalGaussianDistribution, and what it promises by itself."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from latentrt.runtime import DiagonalGaussian
from latentrt.runtime.errors import InputError

SHAPES = [(3, 8, 4, 5), (2, 6, 3, 4, 5)]


def moments(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 2


def both(shape: tuple[int, ...], seed: int = 0) -> tuple[DiagonalGaussian, DiagonalGaussianDistribution]:
    parameters = moments(shape, seed)
    return DiagonalGaussian(parameters), DiagonalGaussianDistribution(torch.from_numpy(parameters).double())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["mean", "logvar", "std", "var"])
def test_every_property_equals_diffusers(shape: tuple[int, ...], name: str) -> None:
    ours, theirs = both(shape)
    assert getattr(ours, name).dtype == np.float32
    np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mode_is_the_mean_in_an_array_of_its_own(shape: tuple[int, ...]) -> None:
    ours, theirs = both(shape)
    mode = ours.mode()
    np.testing.assert_array_equal(mode, theirs.mode().numpy().astype(np.float32))
    mode[...] = 0
    assert ours.mean.any()


def test_kl_and_nll_of_pictures_equal_diffusers() -> None:
    ours, theirs = both(SHAPES[0])
    our_other, their_other = both(SHAPES[0], seed=1)
    sample = moments((3, 4, 4, 5), seed=2)
    pairs = [
        (ours.kl(), theirs.kl()),
        (ours.kl(our_other), theirs.kl(their_other)),
        (ours.nll(sample), theirs.nll(torch.from_numpy(sample).double())),
    ]
    for got, wanted in pairs:
        assert got.shape == (3,)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5)


def test_kl_and_nll_of_clips_sum_over_every_axis_but_the_batch() -> None:
    ours, theirs = both(SHAPES[1])
    our_other, their_other = both(SHAPES[1], seed=1)
    sample = moments((2, 3, 3, 4, 5), seed=2)
    # diffusers sums three axes and leaves the width of a clip, (B, W): the rest of the sum is ours to take.
    np.testing.assert_allclose(ours.kl(), theirs.kl().sum(dim=1).numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours.kl(our_other), theirs.kl(their_other).sum(dim=1).numpy(), rtol=1e-5)
    wanted = theirs.nll(torch.from_numpy(sample).double(), dims=(1, 2, 3, 4))
    np.testing.assert_allclose(ours.nll(sample), wanted.numpy(), rtol=1e-5)


def test_kl_is_nothing_against_itself_and_positive_otherwise() -> None:
    ours, _ = both(SHAPES[1])
    other, _ = both(SHAPES[1], seed=1)
    np.testing.assert_allclose(ours.kl(ours), 0, atol=1e-4)
    assert (ours.kl(other) > 0).all()
    assert (ours.kl() > 0).all()
    standard = DiagonalGaussian(np.zeros(SHAPES[1], np.float32))
    np.testing.assert_array_equal(standard.kl(), 0)
    np.testing.assert_allclose(ours.kl(standard), ours.kl(), rtol=1e-6)


def test_the_log_variance_is_clamped_and_everything_stays_finite() -> None:
    parameters = np.zeros((1, 2, 1, 2), np.float32)
    parameters[0, 1, 0] = -1000, 1000
    posterior = DiagonalGaussian(parameters)
    assert posterior.logvar.ravel().tolist() == [-30, 20]
    for values in (posterior.std, posterior.var, posterior.sample(0), posterior.kl(), posterior.nll(posterior.mean)):
        assert np.isfinite(values).all()
    assert parameters[0, 1, 0].tolist() == [-1000, 1000], "the parameters are left as the encoder gave them"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_seed_gives_the_same_sample_and_a_generator_moves_on(shape: tuple[int, ...]) -> None:
    posterior, _ = both(shape)
    np.testing.assert_array_equal(posterior.sample(3), posterior.sample(3))
    np.testing.assert_array_equal(posterior.sample(np.random.default_rng(3)), posterior.sample(3))
    assert not np.array_equal(posterior.sample(3), posterior.sample(4))
    generator = np.random.default_rng(3)
    assert not np.array_equal(posterior.sample(generator), posterior.sample(generator))
    assert posterior.sample(3).dtype == np.float32


def test_samples_have_the_mean_and_deviation_of_the_distribution() -> None:
    parameters = np.empty((1, 2, 200, 200), np.float32)
    parameters[:, 0], parameters[:, 1] = 0.7, np.log(0.25)
    sample = DiagonalGaussian(parameters).sample(0)
    assert abs(sample.mean() - 0.7) < 0.02
    assert abs(sample.std() - 0.5) < 0.02


@pytest.mark.parametrize("rng", [None, "seed", 1.5, -1, True, np.random])
def test_randomness_comes_from_a_generator_or_a_seed_only(rng: object) -> None:
    with pytest.raises(InputError, match=r"rng must be a numpy\.random\.Generator or a seed"):
        both(SHAPES[0])[0].sample(rng)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    posterior, _ = both(SHAPES[0])
    with pytest.raises(InputError, match="even channel axis"):
        DiagonalGaussian(moments((1, 3, 2, 2)))
    with pytest.raises(InputError, match=r"kl: both distributions .*\(3, 8, 4, 5\) and \(1, 8, 4, 5\)"):
        posterior.kl(DiagonalGaussian(moments((1, 8, 4, 5))))
    with pytest.raises(InputError, match=r"nll: the sample must have the mean's shape \(3, 4, 4, 5\)"):
        posterior.nll(moments((3, 8, 4, 5)))
