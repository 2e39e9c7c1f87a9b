"""The record of a compiled engine: what it was built from and for, and the checks before it is loaded.

An engine's file name and key follow from everything that went into it: graph, weights, profiles, settings, library and
version, compute capabilities. An engine that does not match is never loaded, because the library could misread it or
compute wrong pixels. An engine that takes other weights (`--refit`) runs for every bundle with the same graph.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ...tiling.plain_text import shown
from ..errors import EngineError
from ..system.hashing import sha256_of
from ..system.stand_in import stand_in_at
from .profiles import EngineKind, Profile

__all__ = ["EngineRecord", "build_command", "engine_key", "warmup_command"]

_KEY_DIGITS = 16
_AMPERE = "8.0"  # The first compute capability that TensorRT's hardware-compatible engines run on.
_OPTIONS: dict[EngineKind, str] = {"whole": "", "stream": " --stream", "exact": " --strips"}
_WARMED_UP: dict[EngineKind, str] = {"whole": "", "stream": " --stream", "exact": " --strips"}
_CAUSAL = (bool, type(None))
_TEXTS = ("component", "dtype", "backend", "graph", "graph_sha256", "weights_sha256")
_MORE_TEXTS = ("library_version", "key", "file", "sha256")


@dataclass(frozen=True)
class EngineRecord:
    """One engine file of a bundle.

    Attributes:
        component: "encoder" or "decoder".
        causal: the graph's causality; None for image models.
        dtype: the precision of the graph.
        backend: "tensorrt" or "tensorrt-rtx".
        graph: the name of the ONNX file.
        graph_sha256, weights_sha256: the hashes of the files that the engine was built from.
        library_version: the version of the library that built it.
        compute_capabilities: of the GPUs that it runs on, such as "8.9".
        profiles: the sizes that it takes.
        settings: the build settings that change its content.
        key: a name for everything that went into it (`engine_key`).
        file: its name in the bundle.
        bytes, sha256: of the file.
        activation_bytes: the GPU memory that the library reports for one context, weights not included, or None.
        stripped_bytes: of weights that are not in the file. Loading takes them from the bundle.
        kind: what its graph is for.
        built: when and how long it was built, for reports.
    """

    component: str
    causal: bool | None
    dtype: str
    backend: str
    graph: str
    graph_sha256: str
    weights_sha256: str
    library_version: str
    compute_capabilities: tuple[str, ...]
    profiles: tuple[Profile, ...]
    settings: Mapping[str, Any]
    key: str
    file: str
    bytes: int
    sha256: str
    activation_bytes: int | None = None
    stripped_bytes: int = 0
    kind: EngineKind = "whole"
    built: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if a field is missing or of the wrong kind."""
        known: dict[str, Any] = {name: values[name] for name in (*_TEXTS, *_MORE_TEXTS)}
        numbers = (values["bytes"], values.get("stripped_bytes", 0))
        wrong = any(type(size) is not int or not 0 <= size < 1 << 50 for size in numbers)
        wrong |= not all(isinstance(text, str) for text in known.values()) or type(values["causal"]) not in _CAUSAL
        activations = values.get("activation_bytes")
        wrong |= activations is not None and (type(activations) is not int or not 0 <= activations < 1 << 50)
        if wrong or not isinstance(values["compute_capabilities"], list):
            raise ValueError("an engine's entry holds a field of the wrong kind")
        return cls(
            **known,
            causal=values["causal"],
            bytes=values["bytes"],
            compute_capabilities=tuple(map(str, values["compute_capabilities"])),
            profiles=tuple(map(Profile.from_json, values["profiles"])),
            settings=dict(values["settings"]),
            activation_bytes=activations,
            stripped_bytes=numbers[1],
            kind=_kind(values.get("kind", "whole")),
            built=dict(values.get("built") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "compute_capabilities": list(self.compute_capabilities),
            "profiles": [profile.to_json() for profile in self.profiles],
        }

    @property
    def takes_any_weights(self) -> bool:
        """Whether the engine runs with the weights of any bundle that has its graph."""
        return bool(self.settings.get("refit"))

    def is_of(self, graph_sha256: str, weights_sha256: str) -> bool:
        """Whether the engine can run a graph and weights with these hashes."""
        return self.graph_sha256 == graph_sha256 and (self.takes_any_weights or self.weights_sha256 == weights_sha256)

    def check_origin(self, graph_sha256: str, weights_sha256: str) -> None:
        """Refuse an engine that was built from other files.

        Raises:
            EngineError: the graph or the weights changed; the message holds both hashes.
        """
        if self.is_of(graph_sha256, weights_sha256):
            return
        for what, ours, theirs in (
            ("the graph", self.graph_sha256, graph_sha256),
            ("the weights", self.weights_sha256, weights_sha256),
        ):
            if ours != theirs:
                raise EngineError(
                    f"{self.file} was built when {what} of {self.graph} had SHA-256 {ours[:_KEY_DIGITS]}, and now it "
                    f"is {theirs[:_KEY_DIGITS]}: {self.build_again}"
                )

    def check_machine(self, library_version: str, compute_capability: str) -> None:
        """Refuse an engine of another library version or for other GPUs. An engine that was built to be compatible runs
        with later versions, or on GPUs from Ampere on.

        Raises:
            EngineError: the message holds both values.
        """
        runs_newer = self.settings.get("version_compatible") and _reaches(library_version, self.library_version)
        if library_version != self.library_version and not runs_newer:
            raise EngineError(
                f"{self.file} was built with {self.backend} {self.library_version}, and {library_version} is installed"
                f": {self.build_again}"
            )
        if not self.runs_on(compute_capability):
            raise EngineError(
                f"{self.file} was built for compute capability {', '.join(self.compute_capabilities)}, and this GPU "
                f"has {compute_capability}: {self.build_again}"
            )

    def runs_on(self, compute_capability: str) -> bool:
        """Whether the engine was built for GPUs with a compute capability, such as "8.9"."""
        from_ampere_on = self.settings.get("hardware_compatible") and _reaches(compute_capability, _AMPERE)
        return compute_capability in self.compute_capabilities or bool(from_ampere_on)

    def check_file(self, folder: Path) -> None:
        """Refuse a file that is not byte for byte the engine that was built.

        Raises:
            EngineError: the file is missing, truncated or altered.
        """
        path = folder / self.file
        if not path.is_file():
            raise EngineError(f"{path} is missing: {self.build_again}")
        size = path.stat().st_size
        if size != self.bytes:
            if size and (reason := stand_in_at(path)) is not None:
                raise EngineError(f"{path} is not an engine: {reason}")
            raise EngineError(f"{path} has {size} bytes and its record says {self.bytes}: {self.build_again}")
        found = sha256_of(path)
        if found != self.sha256:
            raise EngineError(
                f"{path} has SHA-256 {found[:_KEY_DIGITS]} and its record says {self.sha256[:_KEY_DIGITS]}: it is not "
                f"the engine that was built; {self.build_again}"
            )

    @property
    def build_again(self) -> str:
        """The command that builds an engine that fits."""
        return f"run `{build_command('BUNDLE', self.backend, self.dtype, self.kind)}`"


def build_command(bundle: Path | str, backend: str, dtype: str, kind: EngineKind) -> str:
    """The command that builds the engines of graphs of a kind."""
    return f"latentrt build {bundle} --backend {backend} --dtype {dtype}{_OPTIONS[kind]}"


def warmup_command(bundle: Path | str, backend: str, dtype: str, kind: EngineKind) -> str:
    """The command that compiles the kernels of an engine of a kind."""
    return (
        f"latentrt warmup {bundle} --backend {backend} --dtype {dtype}{_WARMED_UP[kind]} --size HEIGHTxWIDTH[xFRAMES]"
    )


def engine_key(
    *,
    backend: str,
    library_version: str,
    dtype: str,
    graph_sha256: str,
    weights_sha256: str,
    compute_capabilities: Sequence[str],
    profiles: Sequence[Profile],
    settings: Mapping[str, Any],
) -> str:
    """A name for everything that goes into an engine: 16 digits of a SHA-256. The weights do not count for an engine
    that takes other weights (`refit` in the settings)."""
    content = {
        "backend": backend,
        "library_version": library_version,
        "dtype": dtype,
        "graph": graph_sha256,
        "weights": None if settings.get("refit") else weights_sha256,
        "compute_capabilities": list(compute_capabilities),
        "profiles": [profile.to_json() for profile in profiles],
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def _reaches(version: str, least: str) -> bool:
    """Whether a version ("11.3.0") or a compute capability is `least` or later."""
    left, right = (
        tuple(int(part) for part in text.split(".") if part.isdecimal() and len(part) < 10) for text in (version, least)
    )
    return left >= right


def _kind(value: str) -> EngineKind:
    for kind in _OPTIONS:
        if kind == value:
            return kind
    raise ValueError(f"no engine is for {shown(value)}")
