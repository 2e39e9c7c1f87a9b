"""An engine of one bundle for another bundle: a fine-tune with the same graph and other weights."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from ...runtime.bundle.engine_records import EngineRecord, build_command
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import EngineError
from ...runtime.system.hashing import sha256_of
from ...runtime.system.outputs.partial_output import partial_output, translated_errors
from .order import EngineOrder

__all__ = ["taken_engine"]

_DIGITS = 16  # of a hash, in messages


def taken_engine(order: EngineOrder, bundle: Path, source: Path) -> EngineRecord:
    """Give `bundle` the engine of `source` that fits `order`, and return its record.

    The engine is one file with two names if the file system can do that, else a copy. The caller adds the record to the
    bundle's manifest.

    Raises:
        EngineError: `source` has no engine that agrees in all except the weights (the message holds both values), or
            the engine's file has changed since it was built.
        BundleError: `source` is no bundle.
        OutputError: the file cannot be written.
    """
    manifest = Manifest.open(source)
    here = (order.graph.file, order.backend)
    candidates = [record for record in manifest.engines if (record.graph, record.backend) == here]
    if not candidates:
        command = build_command(source, order.backend, order.graph.dtype, order.graph.kind)
        raise EngineError(
            f"{source} holds no {order.backend} engine of {order.graph.file} to take: run `{command} --strip-weights "
            f"--refit` first"
        )
    record, differences = min(
        ((record, _differences(record, order)) for record in reversed(candidates)), key=lambda pair: len(pair[1])
    )
    if differences:
        raise EngineError(
            f"{source}'s {record.file} is not what {bundle} wants: {'; '.join(differences)}; build with the same "
            f"options and export as there, or without --engines-from"
        )
    record.check_file(source)
    target = bundle / order.file
    had_folder = target.parent.is_dir()
    try:
        with translated_errors(target):
            target.parent.mkdir(exist_ok=True)
        with partial_output(target, overwrite=True) as partial, translated_errors(target):
            _put(source / record.file, partial, record.sha256)
    except BaseException:
        if not had_folder and target.parent.is_dir() and not any(target.parent.iterdir()):
            target.parent.rmdir()
        raise
    return replace(record, file=order.file)


def _differences(record: EngineRecord, order: EngineOrder) -> list[str]:
    """The differences between an engine and an order, apart from the weights, each as a phrase with both values."""
    pairs = {
        "SHA-256 of the graph": (record.graph_sha256[:_DIGITS], order.graph_sha256[:_DIGITS]),
        f"version of {order.backend}": (record.library_version, order.version),
        "compute capability": (", ".join(record.compute_capabilities), ", ".join(order.targets)),
        "sizes": ("; ".join(map(str, record.profiles)), "; ".join(map(str, order.profiles))),
    }
    for name in {**order.settings, **record.settings}:
        pairs[name] = (str(record.settings.get(name)), str(order.settings.get(name)))
    return [f"{name} is {theirs}, wanted {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours]


def _put(file: Path, target: Path, sha256: str) -> None:
    """Give the file a second name."""
    try:
        os.link(file, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(file, target)
        if sha256_of(target) != sha256:
            raise EngineError(f"{file} changed while it was copied: run the command again") from None
