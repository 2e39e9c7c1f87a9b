"""Streaming: chunk after chunk the numbers of a single pass, each frame once and in order, and clean ends."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ALL, diffusers_model, picture, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from latentrt.export.bundle import ExportSettings, export_bundle
from latentrt.export.models import model_from_config
from latentrt.export.models.time_axis import Stream, WholeClip
from latentrt.runtime import BundleError, Cancelled, InputError, open_bundle
from latentrt.runtime.config import AutoencoderKLLTX2VideoConfig, config_from_dict
from latentrt.runtime.execution.frame_queue import FrameQueue

DECODERS = ["ltx20", "ltx23", "causal_decoder", "noise_timestep", "shortcuts", "conv_down", "patch_2"]
Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def opened(bundle_of: Callable[[str], Path]) -> Open:
    @cache
    def open_one(name: str) -> Any:
        return open_bundle(bundle_of(name), threads=1)

    return open_one


def latents_of(vae: Any, frames: int, batch: int = 1, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    shape = (batch, vae.config.latent_channels, frames, *size)
    return np.random.default_rng(frames).standard_normal(shape).astype(np.float32)


def conditions_of(vae: Any, batch: int) -> dict[str, Any]:
    timed = {"temb": np.linspace(0.05, 0.9, batch, dtype=np.float32)} if vae.config.timestep_conditioning else {}
    return timed | ({"rng": 7} if vae.config.noise_stacks else {})


def pieces(array: np.ndarray, lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """The array along time in pieces of those lengths, the last one repeated."""
    start, index = 0, 0
    while start < array.shape[2]:
        length = lengths[min(index, len(lengths) - 1)]
        yield array[:, :, start : start + length]
        start, index = start + length, index + 1


class TestModel:
    """The layers in float64, where equal means equal."""

    @pytest.mark.parametrize("name", DECODERS)
    @pytest.mark.parametrize("lengths", [[100], [14, 1], [16, 3, 5], [13, 2]])
    def test_every_stage_of_a_decoder_gives_what_it_gives_for_the_whole_clip(
        self, name: str, lengths: list[int]
    ) -> None:
        torch.manual_seed(0)
        config = config_from_dict(ALL[name])
        assert isinstance(config, AutoencoderKLLTX2VideoConfig)
        model: Any = model_from_config(config).double().eval()
        hidden = torch.randn(2, config.latent_channels, 19, 2, 3, dtype=torch.float64)
        temb = torch.tensor([0.1, 0.7], dtype=torch.float64) if config.timestep_conditioning else None
        stacks = {stack.name: stack for stack in config.noise_stacks}
        whole_clip, stream = WholeClip(config.decoder_causal), Stream(config.decoder_causal)
        noise_of: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for index, part in enumerate(model.decoder.stages):
                name_of_block = "noise_mid_block" if part.block == 0 else f"noise_up_block_{part.block - 1}"
                noise = noise_of.get(part.block)
                if noise is None and name_of_block in stacks:
                    stack = stacks[name_of_block]
                    shape = (stack.maps, 2 * stack.scale, 3 * stack.scale)
                    noise = noise_of[part.block] = torch.randn(shape, dtype=torch.float64)
                whole = model.decoder.stage(index, hidden, whole_clip, temb, noise)
                got, states, done = [], None, 0
                for frames in pieces(hidden.numpy(), lengths):
                    first, done = int(done == 0), done + frames.shape[2]
                    stream.begin(states, first, int(done == hidden.shape[2]))
                    got.append(model.decoder.stage(index, torch.from_numpy(frames), stream, temb, noise))
                    states = stream.states
                assert torch.allclose(torch.cat(got, dim=2), whole, rtol=0, atol=1e-10 * whole.abs().max())
                hidden = whole[:, :, :40]

    @pytest.mark.parametrize("name", DECODERS)
    def test_the_encoder_too(self, name: str) -> None:
        torch.manual_seed(0)
        config = config_from_dict(ALL[name])
        model: Any = model_from_config(config).double().eval()
        ratio = config.temporal_ratio
        size = 2 * config.spatial_ratio
        clip = torch.rand(1, config.in_channels, 1 + 4 * ratio, size, size, dtype=torch.float64)
        stream, got, states = Stream(causal=True), [], None
        with torch.no_grad():
            whole = model.encode(clip, causal=True)
            for part in pieces(clip.numpy(), [1 + ratio, ratio, 2 * ratio]):
                stream.begin(states, int(states is None), 0)
                got.append(model.encoder(torch.from_numpy(part), stream))
                states = stream.states
        assert torch.allclose(torch.cat(got, dim=2), whole, rtol=0, atol=1e-10 * whole.abs().max())

    @pytest.mark.parametrize("name", ["ltx20", "ltx23"])
    def test_no_convolution_computes_a_frame_twice(self, name: str) -> None:
        config = config_from_dict(ALL[name])
        assert isinstance(config, AutoencoderKLLTX2VideoConfig)
        model: Any = model_from_config(config).eval()
        counts: list[int] = []
        for module in model.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.register_forward_hook(lambda layer, given, result: counts.append(result.numel()))
        hidden = torch.randn(1, config.latent_channels, 20, 2, 3)
        stream, whole_clip = Stream(config.decoder_causal), WholeClip(config.decoder_causal)
        with torch.no_grad():
            for index in range(len(model.decoder.stages)):
                counts.clear()
                whole = model.decoder.stage(index, hidden, whole_clip)
                wanted = sum(counts)
                counts.clear()
                states, done = None, 0
                for part in pieces(hidden.numpy(), [16, 3, 1]):
                    first, done = int(done == 0), done + part.shape[2]
                    stream.begin(states, first, int(done == hidden.shape[2]))
                    model.decoder.stage(index, torch.from_numpy(part), stream)
                    states = stream.states
                assert sum(counts) == wanted
                hidden = whole[:, :, :20]


class TestDecode:
    @pytest.mark.parametrize("frames", [1, 2, 3, 5, 16, 33])
    @pytest.mark.parametrize("name", ["ltx20", "ltx23", "causal_decoder"])
    def test_it_gives_diffusers_whole_clip(self, name: str, frames: int, opened: Open) -> None:
        vae = opened(name)
        z = latents_of(vae, frames, batch=2)
        with torch.no_grad():
            wanted = diffusers_model(ALL[name]).decode(torch.from_numpy(z)).sample.numpy()
        for per_chunk, lengths in [(None, [1]), (1, [frames]), (8, [3, 1, 2]), (10_000, [frames])]:
            parts = list(vae.decode_stream(pieces(z, lengths), per_chunk))
            assert relative_error(np.concatenate(parts, axis=2), wanted) < 1e-4
            assert per_chunk is None or max(part.shape[2] for part in parts) <= per_chunk

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_any_chunks_give_the_same_frames(self, opened: Open, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(DECODERS))
        vae = opened(name)
        frames = data.draw(st.integers(1, 20))
        lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
        per_chunk = data.draw(st.one_of(st.none(), st.integers(1, 64)))
        z = latents_of(vae, frames, batch=data.draw(st.integers(1, 2)))
        options = conditions_of(vae, z.shape[0])
        whole = vae.decode(z, **options).sample
        streamed = np.concatenate(list(vae.decode_stream(pieces(z, lengths), per_chunk, **options)), axis=2)
        assert relative_error(streamed, whole) < 2e-5

    def test_pixels_crops_and_out_are_those_of_decode(self, opened: Open) -> None:
        vae = opened("ltx20")
        z = latents_of(vae, 5)
        whole, pixels = vae.decode(z).sample, vae.decode(z, output="uint8", crop=(30, 50, 60)).sample
        vae.enable_streaming(8)
        try:
            assert relative_error(vae.decode(z).sample, whole) < 2e-5
            told: list[tuple[int, int]] = []
            out = np.zeros_like(pixels)
            options = {"output": "uint8", "crop": (30, 50, 60)}
            assert vae.decode(z, out=out, progress=lambda *counts: told.append(counts), **options).sample is out
            assert np.abs(out.astype(int) - pixels).max() <= 1
            assert told[-1] == (30, 30)
            groups = list(vae.decode_frames(z, **options))
            assert max(group.shape[1] for group in groups) <= 8
            np.testing.assert_array_equal(np.concatenate(groups, axis=1), out)
            for bad in ({"output": "device"}, {"out": np.zeros(3, np.float32)}):
                with pytest.raises(InputError):
                    vae.decode(z, **bad)
            vae.enable_tiling(tile_sample_min_num_frames=16, tile_sample_stride_num_frames=8)
            result = vae.decode(z)
            assert result.exact, "tiles in time are left to the stream"
            assert relative_error(result.sample, whole) < 2e-5
        finally:
            vae.disable_streaming()
            vae.disable_tiling()

    @pytest.mark.parametrize("per_chunk", [None, 3, 8])
    @pytest.mark.parametrize("output", ["float32", "uint8"])
    def test_frames_go_into_an_array_of_the_callers_and_are_views_of_it(
        self, output: str, per_chunk: int | None, opened: Open
    ) -> None:
        vae = opened("ltx20")
        z = latents_of(vae, 5, batch=2)
        axis = 1 if output == "uint8" else 2
        wanted = np.concatenate(list(vae.decode_stream(z, per_chunk, output=output)), axis=axis)
        out = np.zeros_like(wanted)
        done = 0
        for frames in vae.decode_stream(torch.from_numpy(z), per_chunk, output=output, out=out):
            assert np.shares_memory(frames, out)
            start, done = done, done + frames.shape[axis]
            np.testing.assert_array_equal(frames, wanted[:, start:done] if axis == 1 else wanted[:, :, start:done])
        assert done == wanted.shape[axis] == 33
        np.testing.assert_array_equal(out, wanted)

    def test_with_tiles_they_go_into_it_too(self, opened: Open) -> None:
        vae = opened("ltx20")
        z = latents_of(vae, 3, size=(5, 7))
        vae.enable_tiling(tile_sample_min_height=96, tile_sample_stride_height=64)
        try:
            wanted = np.concatenate(list(vae.decode_stream(z, 8)), axis=2)
            out = np.zeros_like(wanted)
            assert all(np.shares_memory(frames, out) for frames in vae.decode_stream(z, 8, out=out))
            np.testing.assert_array_equal(out, wanted)
        finally:
            vae.disable_tiling()

    @pytest.mark.parametrize("name", ["ltx20", "noise_timestep"])
    @pytest.mark.parametrize("blend", ["linear", "diffusers"])
    def test_with_tiles_in_space_it_gives_what_tiles_of_whole_length_give(
        self, name: str, blend: str, opened: Open
    ) -> None:
        vae = opened(name)
        z = latents_of(vae, 6, size=(5, 7))
        options = conditions_of(vae, 1)
        assert vae.decode(z, **options).exact
        space = {"tile_sample_min_height": 96, "tile_sample_stride_height": 64}
        space |= {"tile_sample_min_width": 128, "tile_sample_stride_width": 96}
        # One tile in time is the whole clip, so only height and width are divided.
        endless = {"tile_sample_min_num_frames": 400, "tile_sample_stride_num_frames": 400}
        vae.enable_tiling(blend=blend, **space, **endless)
        try:
            result = vae.decode(z, **options)
            assert not result.exact
            vae.enable_streaming(8)
            streamed = vae.decode(z, **options)
            assert not streamed.exact
            assert relative_error(streamed.sample, result.sample) < 2e-5
            parts = list(vae.decode_stream(pieces(z, [1, 2]), 8, **options))
            assert relative_error(np.concatenate(parts, axis=2), result.sample) < 2e-5
            vae.disable_streaming()
            x = picture(ALL[name], batch=1, frames=17, height=160, width=224)
            moments = vae.encode(x).latent_dist.parameters
            vae.enable_streaming(8)
            assert relative_error(vae.encode(x).latent_dist.parameters, moments) < 2e-5
        finally:
            vae.disable_streaming()
            vae.disable_tiling()

    def test_frames_come_as_soon_as_they_can(self, opened: Open) -> None:
        """The lag of this narrow LTX-2.0 is a few latent frames: no more are taken before something comes out."""
        vae = opened("ltx20")
        z = latents_of(vae, 24)
        taken: list[int] = []

        def one_by_one() -> Iterator[np.ndarray]:
            for index in range(24):
                taken.append(index)
                yield z[:, :, index : index + 1]

        stream = vae.decode_stream(one_by_one(), 8)
        next(stream)
        assert len(taken) <= 9
        for _ in stream:
            pass
        assert taken == list(range(24))

    def test_memory_does_not_grow_with_the_clip(self, opened: Open) -> None:
        vae = opened("ltx20")

        def peak(frames: int) -> int:
            z = (latents_of(vae, 1, size=(4, 4)) for _ in range(frames))
            tracemalloc.start()
            try:
                for part in vae.decode_stream(z, 8):
                    del part
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        peak(9)
        assert peak(60) < 1.05 * peak(20) + 50_000


class TestEncode:
    @pytest.mark.parametrize("frames", [1, 9, 17, 121])
    @pytest.mark.parametrize("name", ["ltx20", "ltx23"])
    def test_it_gives_diffusers_whole_clip(self, name: str, frames: int, opened: Open) -> None:
        vae = opened(name)
        x = picture(ALL[name], batch=2, frames=frames, height=64, width=96)
        with torch.no_grad():
            wanted = diffusers_model(ALL[name]).encode(torch.from_numpy(x)).latent_dist.parameters.numpy()
        for per_chunk, lengths in [(None, [5]), (8, [1, 30]), (1, [frames])]:
            parts = list(vae.encode_stream(pieces(x, lengths), per_chunk))
            assert relative_error(np.concatenate(parts, axis=2), wanted) < 1e-4
        vae.enable_streaming()
        try:
            assert relative_error(vae.encode(x).latent_dist.parameters, wanted) < 1e-4
        finally:
            vae.disable_streaming()

    def test_what_is_off_the_grid_or_looks_ahead_is_refused(self, opened: Open) -> None:
        x = picture(ALL["ltx20"], batch=1, frames=12, height=64, width=64)
        with pytest.raises(InputError, match=r"3 frames are left at the end; a clip has 1 \+ a multiple of 8"):
            list(opened("ltx20").encode_stream(x))
        with pytest.raises(InputError, match="this encoder is not causal"):
            opened("non_causal_encoder").encode_stream(x)
        with pytest.raises(InputError, match="height and width must be multiples of 32"):
            opened("ltx20").encode_stream(x[..., :40])


class TestEnds:
    def test_a_consumer_that_stops_early_leaves_nothing_behind(self, opened: Open) -> None:
        vae = opened("ltx20")
        closed: list[bool] = []

        def source() -> Iterator[np.ndarray]:
            try:
                while True:
                    yield latents_of(vae, 1)
            finally:
                closed.append(True)

        threads = threading.active_count()
        stream = vae.decode_stream(source(), 8)
        next(stream)
        stream.close()
        assert closed == [True]
        assert not vae.opened.engines.calls
        assert threading.active_count() <= threads

    @pytest.mark.parametrize(
        ("chunks", "sentence"),
        [
            ([], "the iterator ended without a frame"),
            ([np.zeros((1, 16, 0, 2, 2), np.float32)], "the iterator ended without a frame"),
            ([np.zeros((1, 16, 1, 2, 2), np.float32), np.zeros((1, 16, 1, 2, 3), np.float32)], "have one size"),
            ([np.zeros((1, 16, 1, 2, 2), np.float32), np.zeros((1, 8, 1, 2, 2), np.float32)], "wanted 16 channels"),
            ([np.full((1, 16, 1, 2, 2), np.nan, np.float32)], "are NaN or infinite"),
        ],
    )
    def test_bad_chunks_end_it_with_one_sentence(self, chunks: list[Any], sentence: str, opened: Open) -> None:
        vae = opened("ltx20")
        with pytest.raises(InputError, match=sentence):
            list(vae.decode_stream(iter(chunks)))
        assert not vae.opened.engines.calls
        assert next(iter(vae.decode_stream(latents_of(vae, 1)))).shape == (1, 3, 1, 64, 96)

    def test_wrong_arguments_are_refused_at_once(self, opened: Open) -> None:
        vae = opened("ltx20")
        z = latents_of(vae, 2)
        with pytest.raises(InputError, match="frames_per_chunk: wanted a whole number of at least 1, got 0"):
            vae.decode_stream(z, 0)
        with pytest.raises(InputError, match="wanted an array, or an iterable of arrays, got int"):
            vae.decode_stream(3)
        with pytest.raises(InputError, match="the clip has no frames"):
            vae.decode_stream(z[:, :, :0])
        with pytest.raises(InputError, match="output='device'"):
            vae.decode_stream(z, output="device")
        with pytest.raises(InputError, match="causal=False, as the config is, got causal=True"):
            vae.decode_stream(z, causal=True)
        with pytest.raises(InputError, match="out: how long an iterator's clip will be is not known: give all latents"):
            vae.decode_stream(pieces(z, [1]), out=np.zeros((1, 3, 9, 64, 96), np.float32))
        for output, shape in (("float32", (1, 3, 8, 64, 96)), ("uint8", (1, 3, 9, 64, 96))):
            with pytest.raises(InputError, match=f"out must be a writeable {output} array of shape"):
                vae.decode_stream(z, output=output, out=np.zeros(shape, output))
        with pytest.raises(InputError, match="stream: frames come to the host as they are made, in no CUDA stream"):
            vae.decode_stream(z, stream=1)

    def test_an_exception_in_the_source_and_cancel_reach_the_caller(self, opened: Open) -> None:
        vae = opened("ltx20")

        def broken() -> Iterator[np.ndarray]:
            yield latents_of(vae, 9)
            raise ValueError("the sampler failed")

        with pytest.raises(ValueError, match="the sampler failed"):
            list(vae.decode_stream(broken(), 8))
        stream = vae.decode_stream(latents_of(vae, 20), 8)
        next(stream)
        vae.cancel()
        with pytest.raises(Cancelled):
            list(stream)
        assert not vae.opened.engines.calls

    def test_a_bundle_without_streaming_graphs_says_how_to_get_them(
        self, checkpoint_of: Callable[[str], Path], tmp_path: Path
    ) -> None:
        export_bundle(checkpoint_of("ltx20"), tmp_path / "bundle", ExportSettings(stream=False))
        assert not list((tmp_path / "bundle").glob("*stream*"))
        with open_bundle(tmp_path / "bundle", threads=1) as vae:
            video: Any = vae
            with pytest.raises(BundleError, match="export it again with --dtype float32 --stream"):
                video.enable_streaming()


def test_streaming_graphs_share_the_weights_file(bundle_of: Callable[[str], Path]) -> None:
    from latentrt.runtime.bundle.manifest import Manifest

    manifest = Manifest.open(bundle_of("ltx23"))
    assert [graph.file for graph in manifest.streams if graph.component == "decoder"] == [
        f"decoder.stream_{index}.onnx" for index in range(5)
    ]
    assert {graph.weights for graph in manifest.streams} == {"decoder.safetensors", "encoder.safetensors"}
    assert sum(manifest.path_of(graph.file).stat().st_size for graph in manifest.streams) < 400_000


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_a_queue_gives_frames_in_order(lengths: list[int], data: st.DataObject) -> None:
    queue, start = FrameQueue(), 0
    for length in lengths:
        queue.put(np.arange(start, start + length, dtype=np.float32).reshape(1, 1, length, 1, 1))
        start += length
    taken: list[float] = []
    while queue.count:
        part = queue.take(data.draw(st.integers(1, queue.count)))
        assert part.flags.c_contiguous
        taken += part.ravel().tolist()
    assert taken == list(range(start))


def test_the_command_line_streams_clips_in_and_out(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    from latentrt.runtime.media.clips.clip_writer import write_clip
    from latentrt.runtime.media.latents_file import read_latents

    bundle = str(bundle_of("ltx20"))
    rows, columns = np.mgrid[:60, :90]
    with write_clip(tmp_path / "clip.mp4", 24) as writer:
        for index in range(21):
            writer.write(np.stack([(rows * 3 + index) % 256, columns * 2, rows * 0 + 9 * index], -1).astype(np.uint8))

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        program = "from latentrt.cli.main import main; main()"
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, env={**os.environ}, check=False)

    for name, options in (("whole", ()), ("stream", ("--stream",))):
        result = run("encode", bundle, "clip.mp4", "-o", f"{name}.safetensors", *options)
        assert result.returncode == 0, result.stderr
    whole, streamed = (read_latents(tmp_path / f"{name}.safetensors") for name in ("whole", "stream"))
    assert (streamed.frames, streamed.height, streamed.width, streamed.frame_rate) == (21, 60, 90, whole.frame_rate)
    assert relative_error(streamed.latents, whole.latents) < 2e-5

    raw = run("decode", bundle, "stream.safetensors", "-o", "-", "--stream")
    assert raw.returncode == 0, raw.stderr
    frames = np.frombuffer(raw.stdout, np.uint8).reshape(21, 60, 90, 3)
    assert run("decode", bundle, "whole.safetensors", "-o", "whole.npy").returncode == 0
    from latentrt.runtime.arrays.pixels import to_pixels

    assert np.abs(frames.astype(int) - to_pixels(np.load(tmp_path / "whole.npy"))[0]).max() <= 1
    assert run("decode", bundle, "stream.safetensors", "-o", "out.mp4", "--stream", "--tile", "64x64").returncode == 0
    for arguments, code, sentence in (
        (("-o", "x.mp4", "--stream", "--tile", "64x64x17"), 2, b"--stream needs no tiles in time"),
        (("-o", "out.mp4", "--stream"), 1, b"exists already"),
    ):
        failed = run("decode", bundle, "stream.safetensors", *arguments)
        assert failed.returncode == code
        assert sentence in failed.stderr
    image = run("decode", str(bundle_of("sd")), "stream.safetensors", "-o", "x.png", "--stream")
    assert image.returncode == 1
    assert b"--stream is for video models" in image.stderr
