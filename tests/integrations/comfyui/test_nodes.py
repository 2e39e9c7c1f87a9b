"""The pack and its nodes: how ComfyUI finds them, and what each does with ComfyUI's folders."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import pytest
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension
from originals import ldm_tensors
from places import ROOT
from safetensors.numpy import save_file

from latentrt.integrations.comfyui import comfy_entrypoint, video_node
from latentrt.integrations.comfyui.bundle_folder import bundle_names, bundle_path
from latentrt.integrations.comfyui.load_node import LoadLatentRTVAE
from latentrt.integrations.comfyui.make_node import MakeLatentRTBundle
from latentrt.integrations.comfyui.vae import LatentRTVAE
from latentrt.integrations.comfyui.video_node import DecodeToVideoFile
from latentrt.runtime.errors import InputError, LatentRTError
from latentrt.runtime.media.clips.clip_reader import open_clip

PACK = ROOT / "integrations" / "comfyui"
Folders = Callable[[str], Path]


def put_bundle(comfy_folder: Path, bundle_of: Folders, architecture: str, name: str = "") -> None:
    shutil.copytree(bundle_of(architecture), comfy_folder / "models" / "latentrt" / (name or architecture))


def loaded(bundle: str, **options: Any) -> Any:
    values = {"backend": "onnxruntime", "dtype": "float32", "memory": "", "tiled_nodes": "tiles"} | options
    [vae] = LoadLatentRTVAE.execute(bundle, **values).args
    return vae


def options_of(node: Any, name: str) -> list[str]:
    [found] = [entry for entry in node.define_schema().inputs if entry.id == name]
    options: list[str] = found.settings["options"]
    return options


# The pack


def test_a_linked_folder_is_a_pack_with_three_nodes(tmp_path: Path) -> None:
    link = tmp_path / "custom_nodes" / "latentrt"
    link.parent.mkdir()
    link.symlink_to(PACK)
    spec = importlib.util.spec_from_file_location(str(link).replace(".", "_x_"), link / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    assert isinstance(extension, ComfyExtension)
    names = [node.define_schema().display_name for node in asyncio.run(extension.get_node_list())]
    assert names == ["Load LatentRT VAE", "Make LatentRT bundle", "Decode to video file"]


def test_the_ids_of_nodes_which_workflows_store_stay() -> None:
    nodes = asyncio.run(asyncio.run(comfy_entrypoint()).get_node_list())
    ids = [node.define_schema().node_id for node in nodes]
    assert ids == ["LatentRTLoadVAE", "LatentRTMakeBundle", "LatentRTDecodeToVideoFile"]


def test_a_python_without_latentrt_is_told_what_to_install(tmp_path: Path) -> None:
    code = "import asyncio, runpy; asyncio.run(runpy.run_path('__init__.py')['comfy_entrypoint']())"
    shutil.copy(PACK / "__init__.py", tmp_path)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: LatentRT is not installed in the Python of ComfyUI: "
        'run `python -m pip install "latentrt[comfyui]"`'
    )


def test_the_pack_has_the_version_and_the_licence_of_the_project() -> None:
    pack, project = (tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (PACK, ROOT))
    assert (pack["version"], pack["license"], pack["name"]) == (project["version"], project["license"], "latentrt")
    assert pack["requires-python"] == project["requires-python"]
    assert pack["dependencies"] == ["latentrt[comfyui]"]


def test_the_extra_has_what_the_nodes_need_and_leaves_torch_alone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {entry for name in ("cpu", "export", "media") for entry in extras[name] if not entry.startswith("torch")}
    assert set(extras["comfyui"]) == wanted


# Load LatentRT VAE


def test_the_loader_lists_the_bundles_and_nothing_else(comfy_folder: Path, bundle_of: Folders) -> None:
    assert options_of(LoadLatentRTVAE, "bundle") == ["no bundle in models/latentrt"]
    put_bundle(comfy_folder, bundle_of, "sd", "b")
    put_bundle(comfy_folder, bundle_of, "sd", "group/a")
    put_bundle(comfy_folder, bundle_of, "sd", ".b.partial")
    (comfy_folder / "models" / "latentrt" / "no bundle").mkdir()
    assert options_of(LoadLatentRTVAE, "bundle") == ["b", "group/a"]


def test_bundles_of_other_folders_that_the_user_configures_are_found(comfy_folder: Path, bundle_of: Folders) -> None:
    shutil.copytree(bundle_of("sd"), comfy_folder / "elsewhere" / "far")
    folder_paths.add_model_folder_path("latentrt", str(comfy_folder / "elsewhere"))
    assert bundle_names() == ["far"]
    assert bundle_path("far") == comfy_folder / "elsewhere" / "far"


def test_the_loader_opens_a_bundle(comfy_folder: Path, bundle_of: Folders) -> None:
    put_bundle(comfy_folder, bundle_of, "sd")
    vae = loaded("sd", memory=" 2GiB ", tiled_nodes="exact")
    assert isinstance(vae, LatentRTVAE)
    assert (vae.first_stage_model.memory, vae.first_stage_model.exact_tiles) == ("2GiB", True)
    assert vae.decode(torch.zeros(1, 4, 4, 4)).shape == (1, 32, 32, 3)


def test_the_loader_runs_a_bundle_in_pytorch(comfy_folder: Path, bundle_of: Folders) -> None:
    put_bundle(comfy_folder, bundle_of, "sd")
    vae = loaded("sd", backend="torch")
    assert vae.first_stage_model.autoencoder.backend.startswith("torch:")
    wanted = loaded("sd").decode(torch.zeros(1, 4, 4, 4))
    torch.testing.assert_close(vae.decode(torch.zeros(1, 4, 4, 4)), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("bundle", "memory", "message"),
    [
        ("no bundle in models/latentrt", "", "models/latentrt holds no bundle: make one"),
        ("../../etc", "", "there is no bundle '../../etc' in "),
        ("sd", "lots", "memory: wanted bytes, or a "),
    ],
)
def test_the_loader_refuses_in_one_sentence(
    bundle: str, memory: str, message: str, comfy_folder: Path, bundle_of: Folders
) -> None:
    put_bundle(comfy_folder, bundle_of, "sd")
    with pytest.raises(InputError, match=message):
        loaded(bundle, memory=memory)


def test_another_bundle_under_the_same_name_is_opened_again(comfy_folder: Path, bundle_of: Folders) -> None:
    put_bundle(comfy_folder, bundle_of, "sd")
    before = LoadLatentRTVAE.fingerprint_inputs("sd", backend="auto")
    assert LoadLatentRTVAE.fingerprint_inputs("sd", backend="auto") == before
    shutil.rmtree(comfy_folder / "models" / "latentrt" / "sd")
    put_bundle(comfy_folder, bundle_of, "flux", "sd")
    assert LoadLatentRTVAE.fingerprint_inputs("sd", backend="auto") != before
    assert LoadLatentRTVAE.fingerprint_inputs("none") == "none"


# Make LatentRT bundle


@pytest.fixture
def checkpoint(comfy_folder: Path, tensors_of: Callable[[str], dict[str, Any]]) -> Path:
    """A single file of Stable Diffusion's VAE in models/vae."""
    path = comfy_folder / "models" / "vae" / "mine.safetensors"
    tensors = {name: np.ascontiguousarray(value) for name, value in ldm_tensors(tensors_of("sd")).items()}
    save_file(tensors, path)
    (comfy_folder / "models" / "checkpoints" / "pickle.ckpt").write_bytes(b"")
    return path


def made(checkpoint: str = "vae/mine.safetensors", name: str = "", model: str = "SDXL") -> Any:
    return MakeLatentRTBundle.execute(checkpoint, name, "float32", model).args


def test_a_bundle_is_made_and_opened_and_listed(checkpoint: Path, vae_of: Callable[..., LatentRTVAE]) -> None:
    assert options_of(MakeLatentRTBundle, "checkpoint") == ["vae/mine.safetensors"]
    vae, name = made()
    assert name == "mine"
    assert options_of(LoadLatentRTVAE, "bundle") == ["mine"]
    latents = torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(vae.decode(latents), vae_of("sd").decode(latents), atol=1e-6, rtol=0)
    values = [value / total for value, total, _ in ProgressBar.shown[:-1]]
    assert values == sorted(values)
    assert len(values) > 10
    assert ProgressBar.shown[-2][:2] == (1, 1)


def test_a_bundle_that_is_there_is_used_and_not_made_again(checkpoint: Path) -> None:
    made()
    changed = bundle_path("mine").stat().st_mtime_ns
    assert made()[1] == "mine"
    assert bundle_path("mine").stat().st_mtime_ns == changed


def test_a_bundle_of_another_checkpoint_is_never_used_for_this_one(checkpoint: Path) -> None:
    made(name="first")
    other = checkpoint.with_name("other.safetensors")
    shutil.copy(checkpoint, other)
    with pytest.raises(InputError, match=r"first was made from mine.safetensors, not from other.safetensors: choose"):
        made("vae/other.safetensors", "first")
    newer = bundle_path("first").stat().st_mtime + 60
    os.utime(checkpoint, (newer, newer))
    with pytest.raises(InputError, match=r"first is older than mine.safetensors: choose another name, or delete"):
        made(name="first")
    os.utime(checkpoint, (0, 0))
    with pytest.raises(InputError, match="first has no graphs in float16: choose"):
        MakeLatentRTBundle.execute("vae/mine.safetensors", "first", "float16")
    with pytest.raises(InputError, match="first was made for another model than the one that is chosen: choose"):
        made(name="first", model="Stable Diffusion 1 or 2")


def test_a_file_that_does_not_say_whose_vae_it_is_asks_for_the_model(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"nothing in the file shows which: choose the model in this node$"):
        made(model="as the file says")
    assert bundle_names() == []
    vae, _ = made(model="SDXL")
    assert vae.first_stage_model.autoencoder.config.scaling_factor == 0.13025


def test_an_interrupt_leaves_no_bundle(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(bar: Any, value: int, total: int, preview: Any = None) -> None:
        if value:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(ProgressBar, "update_absolute", interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        made()
    assert bundle_names() == []
    assert list((checkpoint.parents[1] / "latentrt").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("no checkpoint in models/vae or models/checkpoints", "", "hold no safetensors file"),
        ("vae/none.safetensors", "", "there is no checkpoint 'vae/none.safetensors'"),
        ("loras/mine.safetensors", "", "there is no checkpoint 'loras/mine.safetensors'"),
        ("vae/mine.safetensors", "../up", "wanted the name of a folder in models/latentrt"),
        ("vae/mine.safetensors", ".hidden", "wanted the name of a folder in models/latentrt"),
    ],
)
def test_making_a_bundle_is_refused_in_one_sentence(source: str, name: str, message: str, checkpoint: Path) -> None:
    with pytest.raises(InputError, match=message):
        made(source, name)


def test_the_fingerprint_follows_the_checkpoint(checkpoint: Path) -> None:
    before = MakeLatentRTBundle.fingerprint_inputs("vae/mine.safetensors", name="")
    os.utime(checkpoint, (1, 1))
    assert MakeLatentRTBundle.fingerprint_inputs("vae/mine.safetensors", name="") != before
    assert MakeLatentRTBundle.fingerprint_inputs("vae/none.safetensors") == "vae/none.safetensors"


# Decode to video file


def written(vae: Any, latents: torch.Tensor, kind: str = "mp4", **options: Any) -> Any:
    values: dict[str, Any] = {
        "filename_prefix": "video/clip",
        "frame_rate": 24.0,
        "format": kind,
        "preview": False,
    } | options
    return DecodeToVideoFile.execute({"samples": latents}, vae, **values)


def test_a_clip_becomes_a_file_with_the_frames_of_the_decoder(
    comfy_folder: Path, vae_of: Callable[..., LatentRTVAE]
) -> None:
    vae, latents = vae_of("ltx20"), torch.randn(1, 16, 3, 2, 2)
    node = written(vae, latents, frame_rate=12.5)
    [file] = node.args[1]
    assert file == str(comfy_folder / "output" / "video" / "clip_00001_.mp4")
    assert node.args[0][0].file == file
    assert node.ui.values == [{"filename": "clip_00001_.mp4", "subfolder": "video", "type": "output"}]
    with open_clip(Path(file)) as clip:
        assert clip.frame_rate == 12.5
        frames = np.stack(list(clip))
    assert frames.shape == (17, 64, 64, 3)
    wanted = vae.decode(latents)[0].numpy() * 255
    luma = [np.average(array, axis=-1, weights=(0.2126, 0.7152, 0.0722)) for array in (frames, wanted)]
    assert np.corrcoef(luma[0].ravel(), luma[1].ravel())[0, 1] > 0.9
    assert np.corrcoef(luma[0].ravel(), luma[1][::-1].ravel())[0, 1] < 0.7, "the check cannot fail"
    assert [entry[:2] for entry in ProgressBar.shown if entry[1] == 17][16] == (17, 17)


def test_each_clip_of_a_batch_gets_a_file(vae_of: Callable[..., LatentRTVAE]) -> None:
    files = written(vae_of("ltx20"), torch.randn(2, 16, 2, 2, 2), "webm").args[1]
    assert [Path(file).name for file in files] == ["clip_00001_.webm", "clip_00002_.webm"]
    assert all(Path(file).is_file() for file in files)


def test_previews_are_pictures(vae_of: Callable[..., LatentRTVAE], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_node, "_PREVIEW_SECONDS", 0)
    written(vae_of("ltx20"), torch.randn(1, 16, 2, 2, 3), preview=True)
    previews = [preview for _, total, preview in ProgressBar.shown if total == 9]
    assert len(previews) == 9
    assert (previews[0][0], previews[0][1].size, previews[0][2]) == ("JPEG", (96, 64), 512)


def test_a_budget_lets_the_planner_choose(vae_of: Callable[..., LatentRTVAE]) -> None:
    assert Path(written(vae_of("ltx20", memory="2GiB"), torch.randn(1, 16, 2, 2, 2)).args[1][0]).is_file()
    with pytest.raises(LatentRTError, match="memory"):
        written(vae_of("ltx20", memory="1MiB"), torch.randn(1, 16, 2, 2, 2))


def test_decoders_with_noise_and_timesteps_are_written_too(vae_of: Callable[..., LatentRTVAE]) -> None:
    assert Path(written(vae_of("noise_timestep"), torch.randn(1, 16, 2, 2, 2), "gif").args[1][0]).is_file()


def test_an_interrupt_leaves_no_file(
    comfy_folder: Path, vae_of: Callable[..., LatentRTVAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(bar: Any, value: int, total: int, preview: Any = None) -> None:
        if value == 3:
            comfy.model_management.interrupt_current_processing()

    vae, latents = vae_of("ltx20"), torch.randn(1, 16, 4, 2, 2)
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "update_absolute", interrupt)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            written(vae, latents)
    assert list((comfy_folder / "output" / "video").iterdir()) == []
    assert Path(written(vae, latents).args[1][0]).is_file()


def test_another_vae_is_refused_in_one_sentence(vae_of: Callable[..., LatentRTVAE]) -> None:
    with pytest.raises(InputError, match="wanted the VAE of a video model by Load LatentRT VAE, got one of an image"):
        written(vae_of("sd"), torch.randn(1, 4, 4, 4))
    with pytest.raises(InputError, match="got object: connect that node"):
        written(object(), torch.randn(1, 16, 2, 2, 2))
