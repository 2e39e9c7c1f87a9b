"""The array boundary by itself: what is taken, what is refused, and what comes out."""

from typing import Any

import numpy as np
import pytest
import torch

from latentrt.runtime.arrays.boundary import as_input, check_output, pixel_shape, require_finite, to_output
from latentrt.runtime.errors import InputError


class OnDevice:
    """An array of a GPU library, as far as anyone may look at it."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("nobody may fetch this array")


def test_arrays_of_float32_pass_without_a_copy() -> None:
    array = np.zeros((2, 3), np.float32)
    assert as_input(array, "sample") is array
    tensor = torch.arange(6.0).reshape(2, 3)
    shared = as_input(tensor, "sample")
    tensor[0, 0] = 9
    assert shared[0, 0] == 9, "DLPack shares memory"


def test_every_layout_becomes_contiguous_with_the_same_values() -> None:
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (base.transpose(2, 0, 1), base[:, ::-1], base[::2], np.asfortranarray(base)):
        result = as_input(view, "sample")
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, view)
    tensor = torch.from_numpy(base).permute(2, 1, 0)
    np.testing.assert_array_equal(as_input(tensor, "sample"), tensor.numpy())


def test_half_precision_is_widened_exactly() -> None:
    values = np.array([1 / 3, 65504, 6e-8, -0.0], np.float16)
    for array in (values, torch.from_numpy(values)):
        result = as_input(array, "sample")
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, values.astype(np.float32))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros(3, np.float64), "wanted float32, got float64; convert it"),
        (np.zeros(3, np.uint8), r"got uint8.*scale pixels to \[-1, 1\] first"),
        (np.zeros(3, np.complex64), "got complex64"),
        (np.zeros(3, ">f4"), "wanted float32, got >f4"),
        (np.array([None]), "got object"),
        ([1.0, 2.0], "wanted a float32 array .* got list"),
        (None, "got NoneType"),
        (torch.zeros(3, dtype=torch.bfloat16), r"the torch.Tensor cannot be read as a NumPy array \("),
        (torch.zeros(3, requires_grad=True), r"the torch.Tensor cannot be read as a NumPy array \("),
        (torch.zeros(3, dtype=torch.float64), "wanted float32, got float64"),
        (OnDevice(2), r"lies on a device that this backend \(cpu\) does not run on"),
        (OnDevice(8), "lies on a device"),
    ],
    ids=lambda value: str(value)[:40].replace("\n", " "),
)
def test_what_cannot_be_taken_is_one_sentence(array: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^latents: .*{sentence}") as caught:
        as_input(array, "latents")
    assert "\n" not in str(caught.value)


def test_a_gpu_array_is_handed_through_where_the_backend_runs_there() -> None:
    array = OnDevice(2)
    assert as_input(array, "sample", device="cuda") is array
    with pytest.raises(InputError, match="lies on a device"):
        as_input(OnDevice(10), "sample", device="cuda")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_located(bad: float) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    require_finite(array, "latents")
    array[1, 2, 0] = array[1, 2, 3] = bad
    with pytest.raises(InputError, match=r"^latents: 2 of 24 values are NaN or infinite, the first at \(1, 2, 0\)$"):
        require_finite(array, "latents")
    require_finite(np.zeros((0, 3), np.float32), "latents")


def test_outputs_are_checked_before_anything_runs() -> None:
    shape = (2, 3, 8, 16)
    assert pixel_shape(shape) == (2, 8, 16, 3)
    assert pixel_shape((2, 3, 5, 8, 16)) == (2, 5, 8, 16, 3)
    check_output("float32", np.zeros(shape, np.float32), shape)
    check_output("uint8", np.zeros((2, 8, 16, 3), np.uint8), shape)
    readonly = np.zeros(shape, np.float32)
    readonly.flags.writeable = False
    wrong: list[tuple[str, Any, str]] = [
        ("float16", None, "output must be one of float32, uint8, device, got 'float16'"),
        ("float32", np.zeros(shape, np.float64), r"writeable float32 array of shape \(2, 3, 8, 16\), got float64"),
        ("float32", np.zeros((2, 8, 16, 3), np.float32), "out must be"),
        ("float32", readonly, "out must be a writeable"),
        ("float32", torch.zeros(shape), "got torch.Tensor"),
        ("uint8", np.zeros(shape, np.uint8), r"uint8 array of shape \(2, 8, 16, 3\)"),
        ("device", np.zeros(shape, np.float32), "output='device' leaves the result on the device: give only one"),
    ]
    for output, out, sentence in wrong:
        with pytest.raises(InputError, match=sentence):
            check_output(output, out, shape)


def test_a_result_is_converted_into_out_whatever_its_strides() -> None:
    sample = np.linspace(-1, 1, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert to_output(sample, "float32", None) is sample
    strided = np.zeros((2, 3, 4, 10), np.float32)[..., ::2]
    assert to_output(sample, "float32", strided) is strided
    np.testing.assert_array_equal(strided, sample)
    pixels = np.zeros((2, 3, 4, 5), np.uint8).transpose(0, 2, 3, 1)
    assert to_output(sample, "uint8", pixels) is pixels
    np.testing.assert_array_equal(pixels, to_output(sample, "uint8", None))
