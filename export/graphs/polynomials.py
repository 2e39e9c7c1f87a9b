"""Polynomials in batch size, frames, height and width, as arrays of coefficients."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundle.graph_cost import Formula, GraphSize

__all__ = ["NotPolynomial", "Polynomial", "axis_polynomial", "constant", "formula", "greatest", "product"]

Polynomial = NDArray[np.float64]
"""The coefficient of b^i t^j h^k w^l stands at [i, j, k, l]."""

_POWERS = (2, 3, 3, 3)  # one more than the largest power: attention is quadratic in the positions
_DIGITS = 6  # after the decimal point: coefficients of real graphs are whole or halves
_SHIFTS = tuple(
    np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 2.0, 1.0]])[:count, :count] for count in _POWERS
)  # row n: the coefficients of (1 + x)^n


class NotPolynomial(Exception):
    """A tensor's size is no such polynomial."""


def constant(value: float) -> Polynomial:
    """Return a polynomial that has the same value at every size."""
    made = np.zeros(_POWERS)
    made[0, 0, 0, 0] = value
    return made


def product(factors: Iterable[Polynomial]) -> Polynomial:
    """Return the product of polynomials.

    Raises:
        NotPolynomial: it has a higher power than there is place for.
    """
    made = constant(1)
    for factor in factors:
        made = _times(made, factor)
    return np.round(made, _DIGITS)


def axis_polynomial(lengths: Sequence[int], sizes: Sequence[GraphSize]) -> Polynomial:
    """Return the length of one axis of a tensor as a polynomial: a product with one linear factor for each part of the
    size on which the length depends.

    Args:
        lengths: the length at each of `sizes`.
        sizes: the base size, four sizes that each differ from it in one part (in the order of b, t, h and w), and
            further sizes, which check the result.

    Raises:
        NotPolynomial: the length is no such product.
    """
    base, origin = lengths[0], _parts(sizes[0])
    if base == 0:
        if any(lengths):
            raise NotPolynomial("an axis is empty at some sizes only")
        return constant(0)
    factors = [constant(base)]
    for part, length in enumerate(lengths[1:5]):
        if length != base:
            slope = (length / base - 1) / (_parts(sizes[1 + part])[part] - origin[part])
            factor = constant(1 - slope * origin[part])
            factor[tuple(int(axis == part) for axis in range(4))] = slope
            factors.append(factor)
    made = product(factors)
    for length, size in zip(lengths, sizes, strict=True):
        if abs(_at(made, size) - length) > 1e-3:
            raise NotPolynomial(f"the length of an axis is {lengths}")
    return made


def greatest(values: Iterable[Polynomial]) -> tuple[Polynomial, ...]:
    """Return the polynomials of which one is the greatest at some size. A polynomial is left out if another one is
    greater or equal at every size, by its coefficients around the size 1 x 1 x 1 x 1."""
    shifted = {value.tobytes(): (_shifted(value), value) for value in values}
    kept: list[tuple[Polynomial, Polynomial]] = []
    for own, value in sorted(shifted.values(), key=lambda pair: -float(pair[0].sum())):
        if not any((other >= own).all() for other, _ in kept):
            kept = [pair for pair in kept if not (own >= pair[0]).all()]
            kept.append((own, value))
    return tuple(value for _, value in kept)


def formula(value: Polynomial) -> Formula:
    """Return a polynomial as the text that a manifest holds."""
    places = [(int(b), int(t), int(h), int(w)) for b, t, h, w in np.argwhere(value)]
    return Formula.of({place: float(value[place]) for place in places})


def _times(first: Polynomial, second: Polynomial) -> Polynomial:
    made = np.zeros(_POWERS)
    for place in map(tuple, np.argwhere(second)):
        for other in map(tuple, np.argwhere(first)):
            target = tuple(int(a + b) for a, b in zip(place, other, strict=True))
            if any(power >= count for power, count in zip(target, _POWERS, strict=True)):
                raise NotPolynomial("a tensor grows with a higher power of the size")
            made[target] += second[place] * first[other]
    return made


def _shifted(value: Polynomial) -> Polynomial:
    """The coefficients in powers of b - 1, t - 1, h - 1 and w - 1, none of which is negative."""
    shifted: Polynomial = np.einsum("ijkl,ia,jb,kc,ld->abcd", value, *_SHIFTS)
    return np.round(shifted, _DIGITS)


def _at(value: Polynomial, size: GraphSize) -> float:
    powers = (float(part) ** np.arange(count) for part, count in zip(_parts(size), _POWERS, strict=True))
    return float(np.einsum("ijkl,i,j,k,l->", value, *powers))


def _parts(size: GraphSize) -> tuple[int, int, int, int]:
    return size.batch, size.frames, size.height, size.width
