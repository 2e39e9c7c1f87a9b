"""When engines are tested."""

from typing import Literal, get_args

from ..errors import InputError

__all__ = ["Selftest", "checked_policy"]

Selftest = Literal["once", "always", "never"]
"""When engines run the golden samples: before their first use (the cache folder remembers it), each time a bundle is
opened, or never."""


def checked_policy(value: object) -> Selftest:
    """The value that a user gives.

    Raises:
        InputError: it is no policy.
    """
    for policy in get_args(Selftest):
        if value == policy:
            return policy  # type: ignore[no-any-return]
    raise InputError(f"selftest must be one of {', '.join(get_args(Selftest))}, got {value!r}")
