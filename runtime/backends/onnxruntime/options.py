"""Options of ONNX Runtime's sessions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ....tiling.public_place import shown_in
from ...errors import InputError

__all__ = ["OnnxRuntimeOptions"]


@shown_in("latentrt.runtime")
@dataclass(frozen=True)
class OnnxRuntimeOptions:
    """What `open_bundle(session_options=...)` takes for ONNX Runtime.

    Attributes:
        attributes: values of attributes of `onnxruntime.SessionOptions` by name, such as `graph_optimization_level`. An
            enumeration is given as a member or as the name of a member.
        config_entries: values of session config entries by their dotted names, such as
            `session.intra_op.allow_spinning`.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    config_entries: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: object) -> Self:
        """The options from a mapping of both kinds of names, in which a name with a dot is a config entry.

        Raises:
            InputError: neither a mapping, nor None, nor such options already.
        """
        if isinstance(options, cls):
            return options
        if options is None:
            return cls()
        if not isinstance(options, Mapping):
            raise InputError(
                f"session_options: ONNX Runtime takes OnnxRuntimeOptions or a mapping, got {type(options).__name__}"
            )
        return cls(
            {name: value for name, value in options.items() if "." not in name},
            {name: value for name, value in options.items() if "." in name},
        )

    def set_on(self, session_options: Any) -> None:
        """Set them on an `onnxruntime.SessionOptions`.

        Raises:
            InputError: it has no such attribute, or the attribute does not take the value.
        """
        for name, value in self.config_entries.items():
            session_options.add_session_config_entry(name, str(value))
        for name, value in self.attributes.items():
            if not hasattr(session_options, name):
                raise InputError(f"session_options: onnxruntime.SessionOptions has no {name!r}")
            try:
                setattr(session_options, name, _member(getattr(session_options, name), value))
            except TypeError as error:
                raise InputError(f"session_options: {name} does not take {value!r}: see ONNX Runtime") from error

    def to_json(self) -> dict[str, Any] | None:
        """One mapping, as `of` takes it, with enumerations by the names of their members; None if it is empty."""
        named = {name: getattr(value, "name", value) for name, value in self.attributes.items()}
        return {**named, **self.config_entries} or None


def _member(current: Any, value: Any) -> Any:
    """The member of an enumeration, if the attribute is one and the value is the name of a member."""
    return getattr(type(current), "__members__", {}).get(value, value) if isinstance(value, str) else value
