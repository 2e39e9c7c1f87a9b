"""Checks of config fields, each with a message of one sentence, and the JSON form of diffusers' `config.json`.

Each `require_` function raises `ConfigError` if the field has another type or value.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from ...tiling.plain_text import as_line, shown
from ..errors import ConfigError

__all__ = [
    "FromDict",
    "require_bools",
    "require_choices",
    "require_flags",
    "require_int_tuple",
    "require_ints",
    "require_number",
    "require_numbers",
    "require_statistics",
]

_LIMIT = 1 << 31  # Channels, layers and sizes stay below this number.
_log = logging.getLogger(__name__)


class FromDict:
    """A dataclass that is read from and written to the JSON form of diffusers' `config.json`."""

    family: ClassVar[str]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config from parsed JSON. Keys with a leading underscore are notes and not fields.

        Raises:
            ConfigError: a value has the wrong type, contradicts another, or names something unsupported.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(key for key in values if key not in fields and not key.startswith("_"))
        if unknown:
            _log.warning(
                "%s: config fields that are not known here are ignored: %s", cls.family, as_line(", ".join(unknown))
            )
        known = {key: _frozen(value) for key, value in values.items() if key in fields}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with `_class_name` as diffusers writes it."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {"_class_name": self.family, **{key: _thawed(value) for key, value in values.items()}}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # whole numbers in JSON have no limit
        return False


def require_ints(config: object, names: Sequence[str]) -> None:
    """Whole numbers of at least 1."""
    for name in names:
        value = getattr(config, name)
        if not _is_int(value) or not 1 <= value < _LIMIT:
            raise ConfigError(f"config: {name} must be a whole number of at least 1, got {shown(value)}")


def require_bools(config: object, names: Sequence[str]) -> None:
    """True or false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"config: {name} must be true or false, got {shown(getattr(config, name))}")


def require_flags(config: object, names: Sequence[str]) -> None:
    """True or false, or a tuple of these."""
    for name in names:
        value = getattr(config, name)
        if not all(isinstance(item, bool) for item in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"config: {name} must be true, false, or a list of these, got {shown(value)}")


def require_int_tuple(config: object, name: str, minimum: int = 1) -> None:
    """A tuple of whole numbers, at least one."""
    value = getattr(config, name)
    if (
        not isinstance(value, tuple)
        or not value
        or not all(_is_int(item) and minimum <= item < _LIMIT for item in value)
    ):
        raise ConfigError(f"config: {name} must be a list of whole numbers of at least {minimum}, got {shown(value)}")


def require_choices(config: object, name: str, choices: Sequence[str]) -> None:
    """A tuple of names out of `choices`, at least one."""
    value = getattr(config, name)
    if not isinstance(value, tuple) or not value:
        raise ConfigError(f"config: {name} must be a list of names, got {shown(value)}")
    for item in value:
        if item not in choices:
            raise ConfigError(
                f"config: {name} names {shown(item)}, which is not supported; supported: {', '.join(choices)}"
            )


def require_number(config: object, name: str, *, positive: bool = False, optional: bool = False) -> None:
    """A finite number, or with `optional` None."""
    value = getattr(config, name)
    if optional and value is None:
        return
    if not _is_finite(value) or (positive and value <= 0):
        kind = "a positive number" if positive else "a number"
        raise ConfigError(f"config: {name} must be {kind}, got {shown(value)}")


def require_numbers(config: object, name: str, length: int) -> None:
    """A tuple of `length` finite numbers, or None."""
    value = getattr(config, name)
    if value is None:
        return
    if not isinstance(value, tuple) or not all(map(_is_finite, value)) or len(value) != length:
        raise ConfigError(
            f"config: {name} must hold one finite number per latent channel ({length}), "
            f"got {len(value) if isinstance(value, tuple) else shown(value)}"
        )


def require_statistics(config: Any) -> None:
    """`latents_mean` and `latents_std`: both or neither, a number per latent channel, and positive deviations."""
    if (config.latents_mean is None) != (config.latents_std is None):
        raise ConfigError("config: latents_mean and latents_std come together, and only one of them is given")
    for name in ("latents_mean", "latents_std"):
        require_numbers(config, name, config.latent_channels)
    if config.latents_std is not None and not all(item > 0 for item in config.latents_std):
        raise ConfigError("config: latents_std must be positive in every channel")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
