"""One autoencoder in many threads: same numbers, calls that can be stopped, memory that can be freed at any time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from architectures import ALL, picture
from cancelling import a_cancelled_decode_stops_early

from latentrt.runtime.errors import Cancelled, LatentRTError

SLOW = "no_attention"  # without attention, time and memory grow with the area only
Open = Callable[..., Any]


def latents_of(vae: Any, seed: int, size: tuple[int, ...]) -> np.ndarray:
    shape = (1, vae.config.latent_channels, *size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Gate:
    """Holds every engine call of an autoencoder's decoder until it is opened, so that tests need no clock."""

    def __init__(self, vae: Any) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        component = vae.opened.engines.own.component(vae.opened.jobs.graph("decoder", None))
        run = component.run

        def wait_and_run(*args: Any, **options: Any) -> Any:
            self.entered.release()
            assert self.opened.wait(60)
            return run(*args, **options)

        component.run = wait_and_run


@pytest.mark.slow
@pytest.mark.parametrize("contexts", [1, 4])
@pytest.mark.parametrize(("name", "size"), [("sd", (6, 9)), ("ltx20", (2, 2, 3)), ("noise", (2, 2, 2))])
def test_eight_threads_get_bitwise_what_they_get_one_after_the_other(
    name: str, size: tuple[int, ...], contexts: int, opened: Open
) -> None:
    vae = opened(name, contexts=contexts)
    inputs = [latents_of(vae, seed, size) for seed in range(8)]
    wanted = [vae.decode(z, rng=seed).sample for seed, z in enumerate(inputs)]
    assert len({result.tobytes() for result in wanted}) == 8
    together = threading.Barrier(8)

    def decode_often(seed: int) -> list[np.ndarray]:
        together.wait()
        return [vae.decode(inputs[seed], rng=seed).sample for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for seed, results in enumerate(pool.map(decode_often, range(8))):
            for result in results:
                assert np.array_equal(result, wanted[seed])


def test_threads_may_encode_and_decode_while_engines_load_for_the_first_time(opened: Open) -> None:
    vae = opened("sd", contexts=2)
    sample = picture(ALL["sd"], batch=1, frames=1, height=32, width=40)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: vae(sample).sample, range(8)))
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("contexts", [1, 3])
def test_no_more_calls_run_at_a_time_than_there_are_contexts(contexts: int, opened: Open) -> None:
    vae = opened("sd", contexts=contexts)
    gate = Gate(vae)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(vae.decode, latents_of(vae, seed, (4, 4))) for seed in range(6)]
        for _ in range(contexts):
            assert gate.entered.acquire(timeout=60)
        assert not gate.entered.acquire(timeout=0.3), "a further call waits its turn"
        gate.opened.set()
        assert all(call.result(60) for call in calls)


def test_a_call_cancelled_while_the_engine_runs_stops_early_and_the_next_one_is_right(opened: Open) -> None:
    vae = opened(SLOW)
    small = latents_of(vae, 0, (4, 6))
    wanted = vae.decode(small).sample
    z = latents_of(vae, 1, (64, 64))
    assert a_cancelled_decode_stops_early(vae, z)
    assert np.array_equal(vae.decode(small).sample, wanted)


def test_a_call_cancelled_while_it_waits_for_a_context_raises_at_once(opened: Open) -> None:
    vae = opened("sd")
    z = latents_of(vae, 0, (4, 4))
    wanted = vae.decode(z).sample
    gate = Gate(vae)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(vae.decode, z)
        assert gate.entered.acquire(timeout=60)
        waiting = pool.submit(vae.decode, z)
        until(lambda: len(vae.opened.engines.calls) == 2)
        vae.cancel()
        with pytest.raises(Cancelled):
            waiting.result(10)
        assert not running.done(), "the one that waits does not wait for the one that runs"
        gate.opened.set()
        with pytest.raises(Cancelled):
            running.result(60)
    assert np.array_equal(vae.decode(z).sample, wanted)


def test_cancel_stops_a_sliced_batch_between_two_elements(opened: Open) -> None:
    vae = opened("sd")
    vae.enable_slicing()
    z = np.concatenate([latents_of(vae, seed, (4, 4)) for seed in range(4)])
    gate = Gate(vae)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(vae.decode, z)
        assert gate.entered.acquire(timeout=60)
        vae.cancel()
        gate.opened.set()
        with pytest.raises(Cancelled):
            call.result(60)
    assert not gate.entered.acquire(blocking=False), "no further element was run"
    assert vae.decode(z).sample.shape == (4, 3, 32, 32)


def test_cancel_without_a_call_does_nothing_to_later_ones(opened: Open) -> None:
    vae = opened("sd")
    vae.cancel()
    assert vae.decode(latents_of(vae, 0, (4, 4))).sample.shape == (1, 3, 32, 32)


def test_a_failed_call_gives_its_context_back(opened: Open) -> None:
    vae = opened("sd")
    for _ in range(3):
        with pytest.raises(LatentRTError):
            vae.decode(np.zeros((1, 9, 4, 4), np.float32))
    assert vae.decode(latents_of(vae, 0, (4, 4))).sample.shape == (1, 3, 32, 32)
    assert not vae.opened.engines.calls


def test_release_during_a_running_call_is_safe(opened: Open) -> None:
    vae = opened("sd", contexts=2)
    z = latents_of(vae, 0, (4, 4))
    wanted = vae.decode(z).sample
    gate = Gate(vae)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(vae.decode, z)
        assert gate.entered.acquire(timeout=60)
        vae.release()
        other = pool.submit(vae.decode, z)  # loads the engine anew, past the gate
        assert np.array_equal(other.result(60).sample, wanted)
        gate.opened.set()
        assert np.array_equal(running.result(60).sample, wanted)


@pytest.mark.slow
def test_release_again_and_again_while_threads_decode_changes_nothing(opened: Open) -> None:
    vae = opened("odd_groups", contexts=4)
    inputs = [latents_of(vae, seed, (4, 5)) for seed in range(4)]
    wanted = [vae.decode(z).sample for z in inputs]
    done = threading.Event()

    def decode_often(index: int) -> bool:
        return all(np.array_equal(vae.decode(inputs[index]).sample, wanted[index]) for _ in range(20))

    def release_often() -> None:
        while not done.wait(0.005):
            vae.release()

    releasing = threading.Thread(target=release_often)
    releasing.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(decode_often, range(4)))
    finally:
        done.set()
        releasing.join()


def test_closing_lets_a_running_call_finish_and_refuses_the_one_that_waits(opened: Open) -> None:
    vae = opened("sd")
    z = latents_of(vae, 0, (4, 4))
    wanted = vae.decode(z).sample
    gate = Gate(vae)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(vae.decode, z)
        assert gate.entered.acquire(timeout=60)
        waiting: Future[Any] = pool.submit(vae.decode, z)
        until(lambda: len(vae.opened.engines.calls) == 2)
        vae.close()
        gate.opened.set()
        assert np.array_equal(running.result(60).sample, wanted)
        with pytest.raises(LatentRTError, match="was closed"):
            waiting.result(60)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
