"""Clips in strips: the numbers of a stream over whole frames, for any pieces, in memory and in files."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import latents_of, relative_error

from latentrt.runtime import BundleError, InputError, open_bundle
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.execution.frame_store import FrameStore, GivenFrames, PieceQueue
from latentrt.runtime.execution.piece_plan import pieces_along, plan_pieces

Open = Callable[..., Any]
SIZE = (3, 6, 4)  # latent frames, rows and columns
IN_MEMORY, IN_FILES = 1 << 30, 0
LEAST_BYTES = 1 << 20


def streamed(vae: Any, z: Any, **options: Any) -> Any:
    """A decode over whole frames."""
    vae.disable_tiling()
    vae.enable_streaming(8)
    return vae.decode(z, **options).sample


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_decode_in_strips_has_the_numbers_of_a_stream(backend: str, opened: Open) -> None:
    vae = opened("ltx20", backend=backend)
    z = latents_of(vae, SIZE, batch=2)
    wanted = streamed(vae, z)
    for strip, memory in ((32, IN_MEMORY), (64, IN_FILES), (96, LEAST_BYTES), ((64, 32), IN_FILES)):
        vae.enable_tiling(exact=True, strip=strip, memory_bytes=memory)
        decoded = vae.decode(z)
        assert relative_error(decoded.sample, wanted) < 1e-6, (strip, memory)
        assert decoded.exact
        assert "strips" in decoded.ran.strategy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ltx23", "causal_decoder", "noise_timestep"])
def test_every_decoder_runs_in_strips(name: str, opened: Open) -> None:
    vae = opened(name, backend="onnxruntime")
    options = {"temb": 0.05, "rng": 3} if name == "noise_timestep" else {}
    z = latents_of(vae, SIZE)
    wanted = streamed(vae, z, **options)
    vae.enable_tiling(exact=True, strip=32, memory_bytes=IN_FILES)
    assert relative_error(vae.decode(z, **options).sample, wanted) < 1e-6
    pixels = vae.decode(z, output="uint8", **options).sample
    assert np.abs(pixels.astype(int) - streamed(vae, z, output="uint8", **options)).max() <= 1


def test_an_encode_in_strips_has_the_numbers_of_a_stream(opened: Open) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    clip = np.random.default_rng(0).standard_normal((1, 3, 17, 32 * 24, 32), np.float32)
    vae.enable_streaming(8)
    wanted = vae.encode(clip).latent_dist.parameters
    vae.enable_tiling(exact=True, strip=64, memory_bytes=IN_FILES)
    encoded = vae.encode(clip)
    assert relative_error(encoded.latent_dist.parameters, wanted) < 1e-6
    assert encoded.exact
    chunks = list(vae.encode_stream(iter([clip[:, :, :9], clip[:, :, 9:]])))
    assert relative_error(np.concatenate(chunks, axis=2), wanted) < 1e-6


def test_streams_and_frames_in_strips_come_chunk_by_chunk(opened: Open) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    z = latents_of(vae, (6, *SIZE[1:]))
    wanted = streamed(vae, z)
    vae.enable_tiling(exact=True, strip=32)
    for made in (list(vae.decode_stream(z, 8)), list(vae.decode_frames(z))):
        assert len(made) > 2
        assert relative_error(np.concatenate(made, axis=2), wanted) < 1e-6


def test_chunks_of_single_frames_are_encoded_in_the_steps_of_long_chunks(opened: Open) -> None:
    """An encoder's first stages may take single frames. Their steps wait for more all the same."""
    vae = opened("ltx20", backend="onnxruntime")
    clip = np.random.default_rng(0).standard_normal((1, 3, 25, 64, 64), np.float32)
    vae.disable_tiling()
    whole = np.concatenate(list(vae.encode_stream(clip, 8)), axis=2)
    single = list(vae.encode_stream((clip[:, :, frame : frame + 1] for frame in range(25)), 8))
    assert relative_error(np.concatenate(single, axis=2), whole) < 1e-6
    assert [part.shape[2] for part in single] == [1, 1, 1, 1]


def test_the_frames_that_an_encoder_gathers_count(bundle_of: Callable[[str], Path]) -> None:
    """Eight frames of 2176x3840 take 800 MB, so short chunks are encoded in short steps."""
    graphs = tuple(Manifest.open(bundle_of("ltx20")).find_streams("encoder"))
    budget = 512 << 20
    for gathers, frames in ((False, 8), (True, 2)):
        first = plan_pieces(graphs, (68, 120), 1, budget_bytes=budget, strip=None, frames_per_chunk=8, gathers=gathers)[
            0
        ]
        assert first.frames == frames
        assert first.step_bytes <= budget


def opened_as_any(folder: Path) -> Any:
    return open_bundle(folder, threads=1, backend="onnxruntime")


def with_halo(folder: Path, copy: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(folder, copy)
    values = json.loads((copy / "manifest.json").read_text())
    for graph in values["components"]["decoder"]["streams"]:
        change(graph)
    (copy / "manifest.json").write_text(json.dumps(values))
    return copy


def test_a_halo_that_is_too_small_gives_other_numbers(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    """The proof that the other tests can fail."""
    folder = with_halo(bundle_of("ltx20"), tmp_path / "b", lambda graph: graph.update(halo=graph["halo"] - 1))
    with closing(opened_as_any(folder)) as vae:
        z = latents_of(vae, SIZE)
        wanted = streamed(vae, z)
        vae.enable_tiling(exact=True, strip=32)
        assert relative_error(vae.decode(z).sample, wanted) > 1e-4


def test_a_bundle_of_before_is_refused(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = with_halo(bundle_of("ltx20"), tmp_path / "b", lambda graph: graph.pop("halo"))
    with closing(opened_as_any(folder)) as vae:
        vae.enable_tiling(exact=True)
        for call in (vae.decode, vae.decode_stream):
            with pytest.raises(BundleError, match="export it again"):
                call(latents_of(vae, SIZE))


def test_states_in_float16_are_not_exact(opened: Open) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    z = latents_of(vae, SIZE)
    wanted = streamed(vae, z)
    vae.enable_tiling(exact=True, strip=32, storage="float16")
    decoded = vae.decode(z)
    assert not decoded.exact
    assert 0 < relative_error(decoded.sample, wanted) < 0.05


def test_arguments_of_tiles_and_of_strips_are_not_mixed(opened: Open) -> None:
    vae = opened("ltx20", backend="onnxruntime")
    for options in ({"exact": True, "blend": "ltx2"}, {"exact": True, "tile_sample_min_height": 64}, {"strip": 64}):
        with pytest.raises(InputError, match="exact=True"):
            vae.enable_tiling(**options)
    with pytest.raises(InputError, match="multiple of 32"):
        vae.enable_tiling(exact=True, strip=33)


def test_an_encoder_that_is_not_causal_is_refused(opened: Open) -> None:
    vae = opened("non_causal_encoder", backend="onnxruntime")
    vae.enable_tiling(exact=True)
    with pytest.raises(InputError, match="not causal"):
        vae.encode(np.zeros((1, 3, 9, 64, 64), np.float32))


def test_pieces_cover_an_axis_once_and_keep_their_distance() -> None:
    for length in range(1, 40):
        for halo in range(4):
            for window in range(2 * halo + 1, 20):
                pieces = pieces_along(length, window, halo)
                assert [row for piece in pieces for row in range(piece.own.start, piece.own.stop)] == list(
                    range(length)
                )
                assert len({piece.window.stop - piece.window.start for piece in pieces}) == 1
                for piece in pieces:
                    assert piece.window.stop - piece.window.start <= window
                    assert piece.window.start in (0, *range(piece.own.start - halo + 1))
                    assert piece.window.stop == length or piece.window.stop >= piece.own.stop + halo


@pytest.mark.parametrize("memory", [IN_MEMORY, IN_FILES])
def test_frames_that_wait_are_read_as_they_were_written(memory: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((2, 3, 4, 10, 8), np.float32)
    with closing(FrameStore(memory, None)) as store:
        held = store.make(frames.shape)
        for rows in (slice(0, 6), slice(6, 10)):
            for columns in (slice(0, 8), slice(2, 5)):
                held.write(slice(0, 4), rows, columns, frames[:, :, :, rows, columns])
        queue = PieceQueue()
        queue.put(GivenFrames(frames[:, :, :1]))
        queue.put(held)
        piece = queue.read(3, slice(3, 9), slice(1, 7))
        assert np.array_equal(piece, np.concatenate([frames[:, :, :1], frames], axis=2)[:, :, :3, 3:9, 1:7])
        queue.drop(2)
        assert np.array_equal(queue.read(3, slice(0, 10), slice(0, 8)), frames[:, :, 1:])
        queue.drop(3)
        assert (store.held_bytes, store.in_files, queue.count) == (0, 0, 0)
