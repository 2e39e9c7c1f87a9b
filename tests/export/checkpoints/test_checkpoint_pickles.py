"""Pickles: refused, and with --allow-pickle read for their tensors and nothing else."""

import os
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from originals import ldm_tensors
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
