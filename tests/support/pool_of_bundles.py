"""A program, `pool_of_bundles.py METHOD BUNDLE`: two processes of a pool decode, each with a bundle of its own, while
the process that started them has one open. The exit code is 0 if both give the wanted shape."""

import multiprocessing
import sys
from typing import Any

import numpy as np

from latentrt.runtime import open_bundle

_LATENTS = np.zeros((1, 4, 8, 8), np.float32)
_vae: Any = None


def _open(bundle: str) -> None:
    global _vae
    _vae = open_bundle(bundle, threads=1)


def _decoded(_: int) -> tuple[int, ...]:
    return _vae.decode(_LATENTS).sample.shape  # type: ignore[no-any-return]


def main(method: str, bundle: str) -> int:
    with open_bundle(bundle, threads=1) as vae:
        vae.decode(_LATENTS)
        with multiprocessing.get_context(method).Pool(2, _open, (bundle,)) as pool:
            return 0 if pool.map(_decoded, range(2)) == [(1, 3, 64, 64)] * 2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
