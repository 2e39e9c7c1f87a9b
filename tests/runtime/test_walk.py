"""How many functions a decode enters, and that docs/explanation/walk-of-a-call.md lists them.

The rules of the count are those of `walked.Walk`. The engine is a real one, ONNX Runtime. A first call of the same size
comes before the call that is counted: it loads the engine and makes the plan of the tiles, which is then remembered.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from walked import Walk, walked

from latentrt.runtime.backends.component import CallScope
from latentrt.runtime.calls.workload import Workload

DOCUMENT = ROOT / "docs" / "explanation" / "walk-of-a-call.md"
Open = Callable[..., Any]
MOST_FUNCTIONS = {"whole": 25, "tiles": 50, "strips": 50, "stream": 50}
MOST_MODULES = {"whole": 9, "tiles": 14, "strips": 14, "stream": 14}
MOST_TO_THE_END = {"tiles": (50, 14), "strips": (50, 14), "stream": (50, 14)}


@pytest.fixture
def call_of(opened: Open) -> Callable[[str], Callable[[], Any]]:
    """`call_of(kind)`: a decode that runs in this way."""

    def call(kind: str) -> Callable[[], Any]:
        vae = opened("ltx20" if kind == "stream" else "sd", backend="onnxruntime")
        channels, size = vae.config.latent_channels, (4, 2, 2) if kind == "stream" else (16, 16)
        z = np.random.default_rng(0).standard_normal((1, channels, *size), np.float32)
        if kind == "tiles":
            vae.enable_tiling(tile_sample_min_size=64)
        elif kind == "strips":
            vae.enable_tiling(exact=True, strip=64, memory_bytes=1 << 27)
        elif kind == "stream":
            vae.enable_streaming(8)
        assert vae.decode(z).ran.strategy.startswith(kind), "the call before, which loads the engine"
        return lambda: vae.decode(z)

    return call


@pytest.mark.parametrize("kind", MOST_FUNCTIONS)
def test_few_functions_stand_between_a_decode_and_the_engine(
    kind: str, call_of: Callable[[str], Callable[[], Any]]
) -> None:
    walk = walked(call_of(kind))
    entered = walk.up_to_the_engine
    assert len(entered) <= MOST_FUNCTIONS[kind], entered
    assert len({file for file, _ in entered}) <= MOST_MODULES[kind], sorted({file for file, _ in entered})


@pytest.mark.parametrize("kind", MOST_TO_THE_END)
def test_few_functions_make_the_whole_call(kind: str, call_of: Callable[[str], Callable[[], Any]]) -> None:
    walk, (functions, modules) = walked(call_of(kind)), MOST_TO_THE_END[kind]
    assert len(walk.functions) <= functions, walk.functions
    assert len(walk.modules) <= modules, sorted(walk.modules)


def test_a_step_more_is_seen(call_of: Callable[[str], Callable[[], Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of("whole")
    plain = walked(call)
    settle = "latentrt.runtime.planner.policy.CallPlanner.settle"
    from latentrt.runtime.planner.policy import CallPlanner, _may_be_planned

    original = CallPlanner.settle
    monkeypatch.setattr(settle, lambda self, job, *rest: _may_be_planned(job.strategy) and original(self, job, *rest))
    assert set(walked(call).functions) - set(plain.functions) == {("runtime/planner/policy.py", "_may_be_planned")}


@pytest.mark.parametrize("kind", MOST_FUNCTIONS)
def test_the_document_lists_what_a_call_enters(kind: str, call_of: Callable[[str], Callable[[], Any]]) -> None:
    walk = walked(call_of(kind))
    wanted = walk.up_to_the_engine if kind == "whole" else walk.functions
    assert listed(kind) == wanted if kind == "whole" else sorted(listed(kind)) == sorted(beyond_whole(wanted))


def listed(kind: str) -> list[tuple[str, str]]:
    """The (file, function) pairs of a section of the document."""
    section = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [part for part in section if part.lower().startswith(kind)]
    return re.findall(r"^\|[^|]*\| `([\w/]+\.py)` \| `([^`|]+)` \|", text, flags=re.MULTILINE)


def beyond_whole(functions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a kind enters besides what a whole pass enters on its way to the engine."""
    return [one for one in functions if one not in listed("whole")]


def test_a_call_makes_its_scope_and_its_workload_once(
    call_of: Callable[[str], Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[type] = []

    def counting(kind: type) -> Iterator[None]:
        original: Any = kind.__init__  # type: ignore[misc]

        def noted(self: Any, *arguments: Any, **options: Any) -> None:
            made.append(kind)
            original(self, *arguments, **options)

        monkeypatch.setattr(kind, "__init__", noted)
        yield

    for kind in ("whole", "strips", "stream"):
        call = call_of(kind)
        with monkeypatch.context():
            made.clear()
            for each in (CallScope, Workload):
                next(counting(each))
            call()
            assert sorted(one.__name__ for one in made) == ["CallScope", "Workload"], kind
        monkeypatch.undo()


def test_the_document_names_files_that_are_there() -> None:
    for kind in MOST_FUNCTIONS:
        assert [file for file, _ in listed(kind) if not (ROOT / file).is_file()] == []
    assert Path(DOCUMENT).is_file()


def test_the_walk_is_counted_across_threads(call_of: Callable[[str], Callable[[], Any]]) -> None:
    """Tiles run in a thread of their own."""
    walk: Walk = walked(call_of("tiles"))
    assert ("runtime/execution/run.py", "run_engine") in walk.functions
