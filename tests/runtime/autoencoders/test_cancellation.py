"""A cancelled call leaves nothing behind, and cancelling one call stops no other one."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaigns.storms import Storm, calls_of, latents_of, opened

from latentrt.runtime import CancelToken
from latentrt.runtime.arrays.boundary import check_shape
from latentrt.runtime.backends.sessions import Sessions
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.errors import Cancelled, EngineError, InputError
from latentrt.runtime.execution.streaming import expected_shape

BundleOf = Callable[..., Path]
CALLS = [120, pytest.param(3000, marks=pytest.mark.long)]  # of each storm; 3,000 find what 120 may miss
SIZES: dict[str, list[tuple[int, ...]]] = {
    "sd": [(3, 3), (6, 6), (12, 12), (8, 5)],
    "ltx20": [(1, 2, 2), (2, 3, 2), (3, 4, 4), (4, 3, 5)],
}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["sd", "ltx20"])
@pytest.mark.parametrize("count", CALLS)
def test_a_storm_of_cancelled_calls_changes_no_other_result(
    name: str, backend: str, count: int, bundle_of: BundleOf
) -> None:
    storm = Storm()
    with opened(bundle_of(name), backend=backend, threads=1, contexts=2) as vae:
        storm.run(vae, calls_of(vae, SIZES[name]), seed=1, count=count)
    assert storm.right + storm.cancelled == count
    assert storm.cancelled > count // 20, "hardly a call was cancelled while it ran"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "ltx20"])
@pytest.mark.parametrize("count", CALLS)
def test_models_of_known_sizes_come_back_after_a_storm(name: str, count: int, bundle_of: BundleOf) -> None:
    """With OpenVINO, sizes that were warmed up have models of their own."""
    storm = Storm()
    with opened(bundle_of(name), backend="openvino", threads=1, contexts=2) as vae:
        sizes = SIZES[name][2:]
        shapes = [(1, vae.config.latent_channels, *size) for size in sizes]
        vae.warmup(shapes)
        storm.run(vae, calls_of(vae, sizes), seed=2, count=count // 2)
        made = _models_of(vae)
        for size in sizes:
            vae.decode(latents_of(vae, size))
        assert sorted(dict(model.sizes.shapes)["latents"] for model in made.held if model.sizes) == sorted(shapes)
        assert not any(model.is_spoiled for model in made.held)
    assert storm.right + storm.cancelled == count // 2


def _models_of(vae: Any) -> Any:
    component = vae.opened.engines.own.component(vae.opened.jobs.graph("decoder", None))
    return component.models


def test_a_model_that_was_cancelled_inside_is_never_used_again(bundle_of: BundleOf) -> None:
    with opened(bundle_of("sd"), backend="openvino", threads=1) as vae:
        large = latents_of(vae, (48, 48))
        vae.decode(latents_of(vae, (4, 4)))
        models = _models_of(vae)
        first, token = models.for_every_size(), CancelToken()
        started = time.perf_counter()
        vae.decode(large)
        seconds = time.perf_counter() - started
        threading.Timer(seconds / 4, token.cancel).start()
        with pytest.raises(Cancelled):
            vae.decode(large, cancel=token)
        assert first.is_spoiled
        assert models.held == (), "the spoiled model still takes memory"
        second = models.for_every_size()
        assert second is not first
        vae.decode(latents_of(vae, (4, 4)))
        assert models.for_every_size() is second, "a call that was not cancelled has its model made again"


def test_a_run_that_failed_spoils_its_model_too(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(bundle_of("sd"), backend="openvino", threads=1) as vae:
        z = latents_of(vae, (4, 4))
        want = vae.decode(z).sample
        model = _models_of(vae).for_every_size()

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(model_compiled, name)

            def create_infer_request(self) -> Any:
                request = model_compiled.create_infer_request()

                class Request:
                    def __getattr__(self, name: str) -> Any:
                        return getattr(request, name)

                    def wait(self) -> None:
                        request.wait()
                        raise RuntimeError("out of memory")

                return Request()

        model_compiled = model.compiled
        monkeypatch.setattr(model, "compiled", Failing())
        with pytest.raises(EngineError, match="out of memory"):
            vae.decode(z)
        np.testing.assert_array_equal(vae.decode(z).sample, want)
        assert _models_of(vae).for_every_size() is not model


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_token_cancels_its_own_calls_and_cancel_all_of_them(backend: str, bundle_of: BundleOf) -> None:
    with opened(bundle_of("sd"), backend=backend, threads=1, contexts=4) as vae:
        large = latents_of(vae, (32, 32))
        want = vae.decode(large).sample
        stopped = False
        for _ in range(10):  # on a busy machine a call may end before its token is cancelled
            token = CancelToken()
            with ThreadPoolExecutor(4) as pool:
                mine = pool.submit(vae.decode, large, cancel=token)
                others = [pool.submit(vae.decode, large) for _ in range(3)]
                token.cancel()
            stopped = isinstance(mine.exception(), Cancelled)
            for other in others:
                np.testing.assert_allclose(other.result().sample, want, rtol=0, atol=1e-4 * np.abs(want).max())
            if stopped:
                break
        assert stopped
        seen: set[type] = set()
        for _ in range(10):  # for the same reason
            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(vae.decode, large, cancel=CancelToken()) for _ in range(4)]
                while not all(call.done() for call in running):
                    vae.cancel()
                    time.sleep(0.005)
            endings = {type(call.exception()) for call in running}
            assert endings <= {Cancelled, type(None)}
            seen |= endings
            if endings == {Cancelled}:
                break
        assert Cancelled in seen
        np.testing.assert_allclose(vae.decode(large).sample, want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("enable", ["whole", "sliced", "tiles", "exact"])
def test_a_token_that_was_cancelled_before_stops_every_kind_of_call(enable: str, bundle_of: BundleOf) -> None:
    token = CancelToken()
    assert not token.cancelled
    token.cancel()
    assert token.cancelled
    with opened(bundle_of("sd"), threads=1) as vae:
        z = np.repeat(latents_of(vae, (16, 16)), 2, axis=0)
        if enable == "sliced":
            vae.enable_slicing()
        elif enable == "tiles":
            vae.enable_tiling(tile_sample_min_size=32)
        elif enable == "exact":
            vae.enable_tiling(exact=True, strip=32)
        x = vae.decode(z).sample
        for call in (vae.decode, vae.tiled_decode):
            with pytest.raises(Cancelled):
                call(z, cancel=token)
        for call in (vae.encode, vae.tiled_encode, vae):
            with pytest.raises(Cancelled):
                call(x, cancel=token)
        with pytest.raises(Cancelled):
            vae.decode(z[:1], memory="2GiB", cancel=token) if enable == "whole" else vae.decode(z, cancel=token)


def test_a_token_stops_streams_between_two_steps(bundle_of: BundleOf) -> None:
    with opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae:
        z = latents_of(vae, (32, 2, 2))
        frames = np.zeros((1, vae.config.in_channels, *vae.grid.sample_size((32, 2, 2))), np.float32)

        def begun(stream: Iterator[Any]) -> Iterator[Any]:
            next(stream)
            return stream

        for start, source in ((vae.decode_stream, z), (vae.encode_stream, frames)):
            token = CancelToken()
            stream = begun(start(source, 8, cancel=token))
            other = begun(start(source, 8, cancel=CancelToken()))
            token.cancel()
            with pytest.raises(Cancelled):
                list(stream)
            assert list(other)
        vae.enable_tiling(tile_sample_min_num_frames=24, tile_sample_stride_num_frames=16)
        token = CancelToken()
        groups = vae.decode_frames(z, cancel=token)
        next(groups)
        token.cancel()
        with pytest.raises(Cancelled):
            list(groups)


@pytest.mark.parametrize("memory", [None, "4GiB"])
@pytest.mark.parametrize("way", ["decode", "decode_frames", "encode"])
def test_a_call_that_is_cancelled_between_its_plan_and_its_engine_is_cancelled(
    way: str, memory: str | None, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning and running are one call."""
    from latentrt.runtime.planner.policy import CallPlanner

    loaded: list[Any] = []
    monkeypatch.setattr(Sessions, "component", lambda self, graph: loaded.append(graph))
    with opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae:
        settle = CallPlanner.settle

        def planned_and_cancelled(self: Any, job: Any, wanted: Any, check: Any) -> Any:
            settled = settle(self, job, None, check)
            assert wanted == memory
            vae.cancel()
            return settled

        monkeypatch.setattr(CallPlanner, "settle", planned_and_cancelled)
        array = latents_of(vae, (2, 2, 2))
        if way == "encode":
            array = np.zeros((1, vae.config.in_channels, *vae.grid.sample_size((2, 2, 2))), np.float32)
        with pytest.raises(Cancelled):
            list(getattr(vae, way)(array, memory=memory))
        assert vae.opened.engines.calls == ()
    assert loaded == [], "an engine was loaded for a call that is over"


def test_a_stream_that_nobody_reads_leaves_no_call_behind(bundle_of: BundleOf) -> None:
    with opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae:
        token = CancelToken()
        for start in (vae.decode_stream, vae.decode_frames):
            stream = start(latents_of(vae, (2, 2, 2)), cancel=token)
            assert len(vae.opened.engines.calls) == 1, "it can be cancelled before it is read"
            del stream
            assert vae.opened.engines.calls == ()
        stream = vae.decode_stream(latents_of(vae, (2, 2, 2)))
        vae.cancel()
        with pytest.raises(Cancelled):
            next(stream)


@pytest.mark.parametrize("wrong", [threading.Event(), True, "token"])
def test_what_is_no_token_is_refused(wrong: Any, bundle_of: BundleOf) -> None:
    with opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae:
        z = latents_of(vae, (1, 2, 2))
        for call in (vae.decode, vae.decode_stream, vae.decode_frames):
            with pytest.raises(InputError, match=r"cancel: wanted a latentrt\.runtime\.CancelToken"):
                call(z, cancel=wrong)


def test_a_call_may_end_or_be_cancelled_wherever_a_lock_is_held(bundle_of: BundleOf) -> None:
    """Signal handlers run between any two instructions of the main thread, and so does what ends a stream that was
    thrown away."""
    with opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae:
        token = CancelToken()
        stream = vae.decode_stream(latents_of(vae, (8, 2, 2)), 8, cancel=token)
        next(stream)
        (call,) = vae.opened.engines.calls

        def interrupted() -> None:
            engines = vae.opened.engines
            with engines._lock, engines.own._lock, token._lock, call._lock:  # noqa: SLF001 # the locks are the subject
                vae.cancel()
                token.cancel()
                stream.close()

        thread = threading.Thread(target=interrupted, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "it waits for its own thread"
        assert not vae.opened.engines.calls


def test_a_result_of_another_shape_is_an_error(bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the backend: here one that gives the size of an earlier call, as OpenVINO does after a cancellation."""
    from latentrt.runtime.backends.onnxruntime.component import OnnxRuntimeComponent

    def cropped(run: Any) -> Any:
        return lambda self, inputs, **options: run(self, inputs, **options)[..., :-1]

    def cropped_step(step: Any) -> Any:
        def wrong(self: Any, inputs: Any, **options: Any) -> dict[str, Any]:
            results: dict[str, Any] = step(self, inputs, **options)
            return results | {"result": results["result"][..., :-1]}

        return wrong

    monkeypatch.setattr(OnnxRuntimeComponent, "run", cropped(OnnxRuntimeComponent.run))
    monkeypatch.setattr(OnnxRuntimeComponent, "step", cropped_step(OnnxRuntimeComponent.step))
    with opened(bundle_of("sd"), backend="onnxruntime", threads=1) as vae:
        z = latents_of(vae, (8, 8))
        with pytest.raises(EngineError, match=r"decoder.*shape \(1, 3, 64, 63\), wanted \(1, 3, 64, 64\)"):
            vae.decode(z)
        with pytest.raises(EngineError, match="shape"):
            vae.encode(np.zeros((1, 3, 64, 64), np.float32))
        vae.enable_tiling(exact=True, strip=32)
        with pytest.raises(EngineError, match="shape"):
            vae.decode(z)
        vae.enable_tiling(tile_sample_min_size=32)
        with pytest.raises(EngineError, match="shape"):
            vae.decode(z)
    with (
        opened(bundle_of("ltx20"), backend="onnxruntime", threads=1) as vae,
        pytest.raises(EngineError, match=r"stream_0.*shape"),
    ):
        list(vae.decode_stream(latents_of(vae, (2, 2, 2))))


def test_shapes_are_compared_where_they_are_known(bundle_of: BundleOf) -> None:
    graph = Manifest.open(bundle_of("sd")).find_graphs("encoder")[0]
    (moments,) = graph.outputs
    assert expected_shape(moments, {"batch": 2, "latent_height": 3}) == (2, 8, 3, None)
    check_shape(np.zeros((2, 8, 3, 7)), (2, 8, 3, None), "encoder.onnx")
    for wrong in [(2, 8, 3), (2, 8, 4, 7), (2, 8, 3, 0)]:
        with pytest.raises(EngineError, match=r"encoder.onnx: the engine gave an array of shape"):
            check_shape(np.zeros(wrong), (2, 8, 3, None), "encoder.onnx")
