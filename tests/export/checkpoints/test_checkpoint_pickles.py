"""Pickles: refused, and with --allow-pickle read for their tensors and nothing else."""

import argparse
import datetime
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from originals import ldm_tensors
from peak_memory import peak_bytes
from safetensors.torch import load_file

from latentrt.cli.main import cli
from latentrt.export.checkpoints import Checkpoint, SourceOptions, open_checkpoint
from latentrt.runtime.errors import CheckpointError

STEM = "diffusion_pytorch_model"
ALLOWED = SourceOptions(allow_pickle=True)
SCALING = {"scaling_factor": 0.18215}


@pytest.fixture
def tensors(checkpoint_of: Callable[[str], Path]) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_of("sd") / f"{STEM}.safetensors")


def assert_same(checkpoint: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[name].to(torch.float32).numpy(), err_msg=name)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("ending", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_with_the_way_out(ending: str, tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, tmp_path / f"model{ending}")
    with pytest.raises(CheckpointError, match=r"is a pickle, .* safetensors file, or pass --allow-pickle"):
        open_checkpoint(tmp_path / f"model{ending}", SCALING)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_an_allowed_pickle_gives_its_tensors(
    wrapped: bool, zipped: bool, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    names: dict[str, Any] = OrderedDict(ldm_tensors(tensors, "first_stage_model."))
    names |= {"cond_stage_model.x": torch.ones(2), "global_step": 7}
    content = {"state_dict": names, "global_step": 470000} if wrapped else names
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zipped)
    assert_same(open_checkpoint(tmp_path / "model.ckpt", options=ALLOWED), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_folder_with_a_pickle_of_a_narrow_dtype_is_read(
    dtype: torch.dtype, tmp_path: Path, tensors: dict[str, torch.Tensor], checkpoint_of: Callable[[str], Path]
) -> None:
    (tmp_path / "model").mkdir()
    shutil.copy(checkpoint_of("sd") / "config.json", tmp_path / "model")
    half = {name: value.to(dtype) for name, value in tensors.items()}
    torch.save(half, tmp_path / "model" / f"{STEM}.bin")
    with pytest.raises(CheckpointError, match=r"only as a pickle .*--allow-pickle"):
        open_checkpoint(tmp_path / "model")
    assert_same(open_checkpoint(tmp_path / "model", options=ALLOWED), half)
    torch.save(tensors, tmp_path / "model" / f"{STEM}.fp16.bin")
    assert_same(open_checkpoint(tmp_path / "model", options=SourceOptions(variant="fp16", allow_pickle=True)), tensors)


def lightning(name: str) -> Any:
    """A class of a library that is not installed, as the pickle of a training run names it."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    made = type(name, (), {"__module__": module.__name__})
    setattr(module, name, made)
    return module, made


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(("zipped", "protocol"), [(False, 2), (True, 2), (True, 4)])
def test_a_training_state_is_read_without_the_libraries_that_wrote_it(
    zipped: bool, protocol: int, tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, callback = lightning("ModelCheckpoint")
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        instance = callback()
        instance.best = {"monitor": torch.zeros(3)}
        content = {
            "state_dict": OrderedDict(ldm_tensors(tensors, "first_stage_model.")),
            "callbacks": {callback: {"monitor": "x"}, ("a", ("b", 1)): instance},
            "hyper_parameters": argparse.Namespace(lr=1e-4, path=PurePosixPath("x"), when=datetime.timedelta(days=1)),
            "best": np.float64(0.3),
            "array": np.ones(3),
            "set": {1, 2},
            "kind": torch.float16,
            "device": torch.device("cpu"),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
            "quantised": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            "complex": torch.ones(2, dtype=torch.complex64),
            "sparse": torch.eye(2).to_sparse(),
        }
        torch.save(content, tmp_path / "v1.ckpt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_same(open_checkpoint(tmp_path / "v1.ckpt", SCALING, ALLOWED), tensors)


@pytest.mark.parametrize(("zipped", "protocol"), [(False, 2), (True, 4)])
def test_a_training_state_with_a_config_of_omegaconf_is_read(
    zipped: bool, protocol: int, tmp_path: Path, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configs are trees whose nodes know their parents, and they hold types and enums. (Files that OmegaConf 2.4
    itself wrote were read by hand.)"""
    kinds = {}
    for place, name in (("dictconfig", "DictConfig"), ("nodes", "AnyNode"), ("base", "ContainerMetadata")):
        module = types.ModuleType(f"omegaconf.{place}")
        kinds[name] = type(name, (), {"__module__": module.__name__})
        setattr(module, name, kinds[name])
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    config, node, metadata = (kind() for kind in kinds.values())
    vars(metadata).update(ref_type=Any, object_type=dict, key_type=str, flags={}, resolver_cache=defaultdict(dict))
    vars(node).update(_parent=config, _val=1e-4, _metadata=metadata)
    vars(config).update(_parent=None, _content={"lr": node}, _metadata=metadata)
    content = {
        "state_dict": ldm_tensors(tensors, "first_stage_model."),
        "hyper_parameters": config,
        "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}, "param_groups": [config]}],
    }
    torch.save(content, tmp_path / "v1.ckpt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    for name in ("omegaconf", *(kind.__module__ for kind in kinds.values())):
        monkeypatch.delitem(sys.modules, name)
    assert_same(open_checkpoint(tmp_path / "v1.ckpt", SCALING, ALLOWED), tensors)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "params", "net", "ema"])
def test_the_weights_lie_under_the_keys_of_training_programs(
    key: str, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    torch.save({key: ldm_tensors(tensors), "epoch": 3, "optimizer": {"lr": torch.ones(1)}}, tmp_path / "vae.pt")
    assert_same(open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED), tensors)


def test_moving_averages_are_named_and_left_out(
    tmp_path: Path, tensors: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    averages = {name: value + 1 for name, value in ldm_tensors(tensors).items()}
    torch.save({"state_dict": ldm_tensors(tensors), "ema": averages}, tmp_path / "vae.pt")
    with caplog.at_level(logging.WARNING):
        assert_same(open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED), tensors)
    assert "it also holds moving averages (ema); the weights under 'state_dict' are taken" in caplog.text


def test_nested_dicts_and_parameters_are_one_set_of_names(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    nested: dict[str, Any] = {"encoder": {}, "decoder": {}}
    for name, value in ldm_tensors(tensors).items():
        part, _, rest = name.partition(".")
        nested.setdefault(part, {})[rest] = torch.nn.Parameter(value)
    torch.save(nested, tmp_path / "vae.pt")
    assert_same(open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED), tensors)


def test_tensors_that_share_a_storage_or_are_transposed_are_read(
    tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    names = ldm_tensors(tensors)
    flat = torch.cat([value.flatten() for value in names.values()])
    place, views = 0, {}
    for name, value in names.items():
        views[name] = flat[place : place + value.numel()].view(value.shape)
        place += value.numel()
    views["encoder.conv_in.weight"] = names["encoder.conv_in.weight"].transpose(0, 1).contiguous().transpose(0, 1)
    torch.save(views, tmp_path / "vae.pt")
    assert_same(open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED), tensors)


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(
    "make", [lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), lambda value: value.to(torch.int32)]
)
def test_a_parameter_of_a_dtype_that_is_not_read_is_named(
    make: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    names = dict(ldm_tensors(tensors))
    names["encoder.conv_in.weight"] = make(names["encoder.conv_in.weight"])
    torch.save(names, tmp_path / "vae.pt")
    found = open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED)
    with pytest.raises(CheckpointError, match=r"is stored as q?int"):
        found.tensors["encoder.conv_in.weight"].read()


@pytest.mark.slow
def test_reading_a_pickle_needs_no_torch(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(ldm_tensors(tensors), tmp_path / "vae.ckpt")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from latentrt.export.checkpoints import SourceOptions, open_checkpoint\n"
        "open_checkpoint(sys.argv[1], {'scaling_factor': 1.0}, SourceOptions(allow_pickle=True))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "vae.ckpt")], check=True, timeout=60)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo that costs Python 16 GiB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # bytes of no end
        b"\x80\x02" + b"(" * 1_000_000,
        b"\x80\x02]" + b"2" * 2_000_000,
        b"\x80\x02)" + b"\x86" * 10,
        b"\x80\x02I" + b"9" * 100_000 + b"\n.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0K\1s.",  # a key whose hash takes for ever
    ],
)
def test_a_hostile_pickle_costs_little(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vae.pt").write_bytes(content)
    start, before = time.monotonic(), peak_bytes()
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path / "vae.pt", SCALING, ALLOWED)
    assert "\n" not in str(caught.value)
    assert peak_bytes() - before < 500 << 20
    assert time.monotonic() - start < 10


def test_the_command_line_asks_for_it_by_name(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(ldm_tensors(tensors), tmp_path / "vae.pt")
    arguments = ["convert", str(tmp_path / "vae.pt"), str(tmp_path / "out"), "--scaling-factor", "0.18215"]
    with pytest.raises(CheckpointError, match="is a pickle"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    CliRunner().invoke(cli, [*arguments, "--allow-pickle"], catch_exceptions=False)
    assert_same(open_checkpoint(tmp_path / "out"), tensors)


def test_a_pickle_that_would_run_code_is_refused_even_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Bomb()}, tmp_path / "zipped.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("zipped.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match=r"more than tensors, or is damaged, .* even with --allow-pickle"):
            open_checkpoint(tmp_path / name, options=ALLOWED)
    assert not (tmp_path / "exploded").exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())  # the same bytes, trusted: what was refused is real
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kept", [0, 1, 10, 0.2, 0.9])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_truncated_pickle_is_one_sentence(
    kept: float, zipped: bool, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "model.pt"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, SCALING, ALLOWED)
    assert "\n" not in str(caught.value)


def test_a_pickle_without_a_state_dict_is_one_sentence(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="must hold a dict of tensors, got list"):
        open_checkpoint(tmp_path / "model.pt", options=ALLOWED)
