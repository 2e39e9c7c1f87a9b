"""What is derived from graphs: equal to what is written by hand, and refused where the manifest says otherwise."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lowered import Pair, lowered, streams_of, strips_of, whole_of
from onnx import ModelProto, TensorProto, helper

from latentrt.export.reach.facts import barriers, halo_of, reach_of
from latentrt.export.reach.streams import check_streams, stream_facts
from latentrt.export.reach.strips import check_strips, strip_stage
from latentrt.export.reach.tensors import UnknownOperator
from latentrt.runtime.bundle import ports
from latentrt.runtime.bundle.graph import Graph
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.bundle.strip_stage import StripStage
from latentrt.runtime.errors import BundleError

VIDEO = ["ltx20", "causal_decoder", "noise_timestep", "conv_down"]
PICTURES = ["sd", "odd_groups", "relu_one_block", "flux2_small_decoder"]


@pytest.mark.parametrize("name", VIDEO)
@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_streams_have_the_delays_states_and_frames_that_are_written_by_hand(name: str, component: str) -> None:
    config, _ = lowered(name, component)
    stages = streams_of(name, component)
    for (graph, _), facts in zip(stages, check_streams(config, whole_of(name, component), stages), strict=True):
        assert graph.stage is not None
        assert (facts.lead, facts.multiple) == (graph.stage.lead, graph.stage.multiple)
        assert facts.states == tuple(one.name for one in graph.inputs if ports.is_state(one.name))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_strips_have_the_rows_and_scales_that_are_written_by_hand(name: str, component: str) -> None:
    config, _ = lowered(name, component)
    check_strips(config, whole_of(name, component), strips_of(name, component))


def test_halos_of_streams_are_those_counted_by_hand() -> None:
    # conv_in and two convolutions; an upsampler, and two convolutions of half the size; the last stage has one more.
    assert [graph.halo for graph, _ in streams_of("ltx20", "decoder")] == [3, 2, 2, 3]


def without(pair: Pair, name: str) -> Pair:
    graph, model = pair
    return replace(graph, inputs=tuple(one for one in graph.inputs if one.name != name)), model


def changed(pair: Pair, **values: int) -> Pair:
    graph, model = pair
    assert graph.stage is not None
    return replace(graph, stage=replace(graph.stage, **values)), model


WRONG: dict[str, Callable[[Pair], Pair]] = {
    "halo": lambda pair: (replace(pair[0], halo=(pair[0].halo or 0) - 1), pair[1]),
    "lead": lambda pair: changed(pair, lead=2),
    "ratio": lambda pair: changed(pair, ratio=2),
    "multiple": lambda pair: changed(pair, multiple=2),
    "inputs": lambda pair: without(pair, ports.state(1)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_entry_of_a_stream_is_refused(wrong: str) -> None:
    config, _ = lowered("ltx20", "decoder")
    first, *others = streams_of("ltx20", "decoder")
    with pytest.raises(BundleError, match=wrong):
        check_streams(config, whole_of("ltx20", "decoder"), [WRONG[wrong](first), *others])


def test_a_stream_that_forgets_a_state_is_refused() -> None:
    config, _ = lowered("ltx20", "decoder")
    (graph, model), *others = streams_of("ltx20", "decoder")
    forgetful = ModelProto()
    forgetful.CopyFrom(model)
    state, next_state = ports.state(1), ports.next_state(ports.state(1))
    for node in forgetful.graph.node:  # the state that came in goes out again
        node.output[:] = ["dropped" if name == next_state else name for name in node.output]
    forgetful.graph.node.append(helper.make_node("Identity", [state], [next_state], name="kept"))
    with pytest.raises(BundleError, match="frames"):
        check_streams(config, whole_of("ltx20", "decoder"), [(graph, forgetful), *others])


@pytest.mark.parametrize(
    ("like", "values"), [({}, {"before": 0}), ({}, {"after": 0}), ({"up": 2}, {"up": 1}), ({"skip": 0}, {"before": 0})]
)
def test_a_wrong_entry_of_strips_is_refused(like: dict[str, Any], values: dict[str, Any]) -> None:
    config, _ = lowered("sd", "decoder")
    stages = strips_of("sd", "decoder")

    def is_like(stage: StripStage) -> bool:
        return stage.kind == "convolution" and all(getattr(stage, key) == value for key, value in like.items())

    index = next(number for number, (graph, _) in enumerate(stages) if is_like(place_of(graph)))
    graph, model = stages[index]
    stages[index] = replace(graph, strip_stage=replace(place_of(graph), **values)), model
    with pytest.raises(BundleError, match="manifest says"):
        check_strips(config, whole_of("sd", "decoder"), stages)


def place_of(graph: Graph) -> StripStage:
    assert graph.strip_stage is not None
    return graph.strip_stage


def test_a_downsampler_has_its_zeros_below_and_right() -> None:
    whole, stages = whole_of("sd", "encoder"), strips_of("sd", "encoder")
    stage, model = next((place_of(graph), model) for graph, model in stages if place_of(graph).down == 2)
    derived = strip_stage(replace(stage, before=1, after=0, down=1), whole, model)
    assert (derived.before, derived.after, derived.down) == (0, 1, 2)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_result_changes_as_far_as_the_halo_says_and_no_further(stage: int, bundle_of: Callable[[str], Path]) -> None:
    folder = bundle_of("ltx20")
    graph = Manifest.open(folder).find_streams("decoder")[stage]
    session = onnxruntime.InferenceSession(str(folder / graph.file), providers=["CPUExecutionProvider"])
    rng, lengths = np.random.default_rng(0), ports.stream_axes(1, (8, 2), frames=4)
    inputs = {
        one.name: rng.standard_normal(one.shape_for(lengths)).astype(one.dtype) * (one.dtype != "int64")
        for one in graph.inputs
    }
    before = session.run([ports.RESULT], inputs)[0]
    units = inputs[ports.CHUNK].shape[3]
    inputs[ports.CHUNK][:, :, :, units // 2] += 1
    differs = (session.run([ports.RESULT], inputs)[0] != before).any(axis=(0, 1, 2, 4))
    (touched,) = np.nonzero(differs)
    per_unit = differs.size // units
    assert graph.halo is not None
    reach = max(units // 2 - touched.min() // per_unit, touched.max() // per_unit - units // 2)
    assert reach == graph.halo, touched


def test_the_form_for_a_cpu_depends_on_the_same_rows(bundle_of: Callable[[str], Path]) -> None:
    folder = bundle_of("ltx20")
    for graph in Manifest.open(folder).find_streams("decoder"):
        assert graph.cpu_file is not None
        model = onnx.load(folder / graph.cpu_file, load_external_data=False)
        assert stream_facts(model).halo == graph.halo


def test_a_group_norm_is_named_as_what_forbids_a_cut() -> None:
    first = barriers(whole_of("sd", "decoder"), {"batch": 1, "latent_height": 4, "latent_width": 4})[0]
    assert (first.axis, first.operator) == ("height", "ReduceMean")
    assert "decoder.mid_block.resnets.0.norm1" in first.node
    assert first.tensor in str(first)


def test_attention_is_named_as_what_forbids_a_cut() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "flat"], ["tokens"], name="tokens"),
            helper.make_node("Transpose", ["tokens"], ["keys"], name="keys", perm=[0, 2, 1]),
            helper.make_node("MatMul", ["keys", "tokens"], ["scores"], name="scores"),
        ],
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, "height", "width"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", None, None])],
        [helper.make_tensor("flat", TensorProto.INT64, [3], [0, 0, -1])],
    )
    (barrier, _) = barriers(helper.make_model(graph), {"batch": 1, "height": 4, "width": 4})
    assert (barrier.operator, barrier.tensor) == ("MatMul", "scores")


def test_a_video_decoder_forbids_no_cut_in_space() -> None:
    model = streams_of("ltx20", "decoder")[1][1]
    lengths = {**ports.stream_axes(1, (8, 8)), ports.FRAMES: 4}
    assert barriers(model, lengths, {ports.FIRST: 0, ports.LAST: 0}) == ()


def test_every_tensor_has_its_scale_and_its_reach() -> None:
    model = streams_of("ltx20", "decoder")[1][1]
    lengths = {**ports.stream_axes(1, (16, 16)), ports.FRAMES: 4}
    found = reach_of(model, lengths, {ports.FIRST: 0, ports.LAST: 0})
    result = found[ports.RESULT]["height"]
    assert (result.scale, result.before, result.after) == (Fraction(2), 2, 2)
    assert found[ports.CHUNK]["height"].before == 0
    assert {Fraction(1), Fraction(2)} <= {one.scale for axes in found.values() for one in axes.values()}


def test_an_operator_without_a_rule_is_named() -> None:
    graph = helper.make_graph(
        [helper.make_node("FFT", ["x"], ["y"], name="spectrum")],
        "unknown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"])],
    )
    with pytest.raises(UnknownOperator, match="FFT"):
        halo_of(helper.make_model(graph), {"height": 4, "width": 4})
