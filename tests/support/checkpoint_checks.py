"""What tests of every kind of checkpoint check: the same tensors, or a refusal that leaves nothing."""

from pathlib import Path

import numpy as np
import pytest

from latentrt.export.bundle import export_bundle
from latentrt.export.checkpoints import Checkpoint
from latentrt.runtime.errors import CheckpointError, LatentRTError

__all__ = ["assert_same", "refuse"]


def assert_same(checkpoint: Checkpoint, expected: dict[str, np.ndarray]) -> None:
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[name], err_msg=name)


def refuse(source: Path, sentence: str, kind: type[LatentRTError] = CheckpointError) -> None:
    """The export fails with one sentence and leaves nothing."""
    bundle = source.with_name("bundle")
    with pytest.raises(kind, match=sentence) as caught:
        export_bundle(source, bundle)
    assert "\n" not in str(caught.value)
    assert not bundle.exists()
