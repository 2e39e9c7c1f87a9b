"""The array boundary by itself: what is taken, what is refused, and what comes out."""

from typing import Any

import ml_dtypes
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


class Stubborn:
    """An object whose library does not give its values."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise LookupError("no")


class OfAnotherLibrary:
    """An array that has no DLPack, such as a TensorFlow tensor."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.values


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
        (np.zeros(3, np.int64), r"wanted float32, got int64; convert it with .astype\('float32'\)"),
        (np.zeros(3, bool), "wanted float32, got bool; convert it"),
        (np.zeros(3, np.uint8), r"got uint8.*scale pixels to \[-1, 1\] first"),
        (np.zeros(3, np.complex64), "got complex64"),
        (np.zeros(3, [("a", "f4")]), "got .*a"),
        (np.zeros(3, "V2"), r"got \|V2; give real numbers"),
        (np.ma.masked_array([1.0, 2.0], [True, False], np.float32), r"1 of 2 values are masked: .* \.filled"),
        (np.array([None]), "got object"),
        ([1.0, 2.0], "wanted a float32 array .* got list"),
        (None, "got NoneType"),
        (torch.zeros(3).to_sparse(), r"the torch.Tensor cannot be read as a NumPy array \("),
        (torch.zeros(3, device="meta"), r"the torch.Tensor cannot be read as a NumPy array \("),
        (torch.zeros(3, dtype=torch.int32), "wanted float32, got int32"),
        (Stubborn(), "Stubborn cannot be read as a NumPy array .no."),
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


VALUES = np.array([[1 / 3, -2.5, 0.0], [1e-30, 3e38, -0.0]], np.float32)
TENSOR = torch.from_numpy(VALUES)
ROUNDED = TENSOR.bfloat16().float().numpy()
ALSO_TAKEN = {
    "float64": (VALUES.astype(np.float64), VALUES),
    "long double": (VALUES.astype(np.longdouble), VALUES),
    "big-endian": (VALUES.astype(">f4"), VALUES),
    "big-endian float64": (VALUES.astype(">f8"), VALUES),
    "no value masked": (np.ma.masked_array(VALUES, np.zeros(VALUES.shape, bool)), VALUES),
    "ml_dtypes bfloat16": (VALUES.astype(ml_dtypes.bfloat16), ROUNDED),
    "ml_dtypes float8": (np.ones(3, ml_dtypes.float8_e4m3fn), np.ones(3, np.float32)),
    "another library": (OfAnotherLibrary(VALUES), VALUES),
    "another library's bfloat16": (OfAnotherLibrary(VALUES.astype(ml_dtypes.bfloat16)), ROUNDED),
    "torch float64": (TENSOR.double(), VALUES),
    "torch bfloat16": (TENSOR.bfloat16(), ROUNDED),
    "torch float8": (torch.ones(3).to(torch.float8_e4m3fn), np.ones(3, np.float32)),
    "a gradient": (TENSOR.clone().requires_grad_(), VALUES),
    "a parameter": (torch.nn.Parameter(TENSOR.bfloat16()), ROUNDED),
    "a graph": (TENSOR.clone().requires_grad_() * 1, VALUES),
    "a negated view": (torch.complex(TENSOR, -TENSOR).conj().imag, VALUES),
    "channels last": (
        TENSOR.reshape(1, 2, 3, 1).contiguous(memory_format=torch.channels_last),
        VALUES.reshape(1, 2, 3, 1),
    ),
    "expanded": (TENSOR[:1].expand(4, 3), np.broadcast_to(VALUES[:1], (4, 3))),
}


@pytest.mark.parametrize("name", ALSO_TAKEN)
def test_other_floating_point_arrays_become_float32(name: str) -> None:
    given, wanted = ALSO_TAKEN[name]
    result = as_input(given, "latents")
    assert type(result) is np.ndarray
    assert result.dtype == np.float32
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, wanted)


def test_an_array_that_cannot_be_written_is_read() -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    assert as_input(array, "latents") is array


def test_what_float32_cannot_hold_is_found_as_infinite() -> None:
    with pytest.raises(InputError, match="1 of 2 values are NaN or infinite"):
        require_finite(as_input(np.array([1e300, 1.0]), "latents"), "latents")


class GpuTensor(OnDevice):
    """A tensor on a GPU, by the methods of PyTorch's."""

    def __init__(self, dtype: str) -> None:
        super().__init__(2)
        self.dtype, self.calls = dtype, [""]

    def detach(self) -> "GpuTensor":
        self.calls.append("detach")
        return self

    def float(self) -> "GpuTensor":
        self.calls.append("float")
        return self


@pytest.mark.parametrize(("dtype", "calls"), [("torch.float32", ["detach"]), ("torch.bfloat16", ["detach", "float"])])
def test_a_tensor_on_a_gpu_loses_its_gradient_there(dtype: str, calls: list[str]) -> None:
    tensor = GpuTensor(dtype)
    assert as_input(tensor, "sample", device="cuda") is tensor
    assert tensor.calls[1:] == calls
    with pytest.raises(InputError, match=r"copy it to the host first, with \.cpu\(\) in PyTorch"):
        as_input(tensor, "sample")
