"""Hub ids, against a hub on this machine: what is fetched, what stays where it is, and what is one sentence."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, fake_hub
from places import TESTS
from safetensors.numpy import load_file, save_file

from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.checkpoints.hub_address import HubAddress, hub_address
from latentrt.runtime.errors import CheckpointError, MissingExtra

pytestmark = pytest.mark.slow

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
LATENTRT = [sys.executable, "-c", "from latentrt.cli.main import main; main()"]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> Iterator[FakeHub]:
    """A pipeline `org/pipeline` and a model `org/model`, each with more than a VAE needs."""
    pipeline = tmp_path / "hub" / "org" / "pipeline"
    shutil.copytree(checkpoint_of("relu_one_block"), pipeline / "vae")
    half = {name: value.astype("float16") for name, value in load_file(pipeline / "vae" / WEIGHTS).items()}
    save_file(half, pipeline / "vae" / f"{STEM}.fp16.safetensors")
    (pipeline / "vae" / f"{STEM}.bin").write_bytes(b"pickle")
    (pipeline / "unet").mkdir()
    (pipeline / "unet" / WEIGHTS).write_bytes(b"large")
    (pipeline / "model_index.json").write_text("{}")
    shutil.copytree(checkpoint_of("relu_one_block"), pipeline.parent / "model")
    (pipeline.parent / "model" / "README.md").write_text("# A model")
    with fake_hub(tmp_path / "hub") as served:
        yield served


def inspect(hub: FakeHub | None, *arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `latentrt inspect` in a process of its own: the hub's address is read at import."""
    settings = {"HF_ENDPOINT": hub.url if hub else NOWHERE, "HF_HOME": str(cwd / "cache"), "HF_HUB_DISABLE_XET": "1"}
    variables = {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    command = [*LATENTRT, "inspect", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, timeout=60, check=False)


def assert_refused(done: "subprocess.CompletedProcess[str]", sentence: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1, done.stderr
    assert sentence in lines[0]
    assert "Traceback" not in done.stderr


def test_only_the_config_and_one_set_of_weights_are_fetched(hub: FakeHub, tmp_path: Path) -> None:
    done = inspect(hub, "org/pipeline", cwd=tmp_path)
    assert json.loads(done.stdout)["family"] == "AutoencoderKL", done.stderr
    assert sorted(hub.fetched) == ["vae/config.json", f"vae/{WEIGHTS}"]
    again = inspect(hub, "org/pipeline", "--subfolder", "vae", "--revision", "main", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(hub.fetched) == 2  # the cache has them
    assert inspect(hub, "org/pipeline", "--variant", "fp16", cwd=tmp_path).returncode == 0
    assert hub.fetched[2:] == [f"vae/{STEM}.fp16.safetensors"]


def test_a_model_at_the_root_and_a_commit_are_read(hub: FakeHub, tmp_path: Path) -> None:
    done = inspect(hub, "org/model", "--revision", COMMIT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(hub.fetched) == ["config.json", WEIGHTS]


def test_shards_are_fetched_by_their_index(hub: FakeHub, tmp_path: Path) -> None:
    folder = hub.root / "org" / "model"
    whole = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = list(whole)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, inside in parts.items():
        save_file({name: whole[name] for name in inside}, folder / file)
    save_file({}, folder / "c.safetensors")
    places = {name: file for file, inside in parts.items() for name in inside}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    done = inspect(hub, "org/model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(hub.fetched) == ["a.safetensors", "b.safetensors", "config.json", f"{WEIGHTS}.index.json"]


def test_a_flax_model_is_fetched_where_there_is_nothing_safer(hub: FakeHub, tmp_path: Path) -> None:
    shutil.copytree(TESTS / "flax_fixture" / "float32", hub.root / "org" / "flax")
    (hub.root / "org" / "flax" / f"{STEM}.bin").write_bytes(b"pickle")
    done = inspect(hub, "org/flax", cwd=tmp_path)
    assert json.loads(done.stdout)["format"] == "Flax folder", done.stderr
    assert sorted(hub.fetched) == ["config.json", "diffusion_flax_model.msgpack"]


def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    (hub.root / "org" / "empty").mkdir()
    (hub.root / "org" / "pickle").mkdir()
    (hub.root / "org" / "pickle" / "config.json").write_text("{}")
    (hub.root / "org" / "pickle" / f"{STEM}.bin").write_bytes(b"pickle")
    for arguments, sentence in (
        (("org/nothing",), "org/nothing is neither a local path nor a model on the hub that you can see"),
        (("org/gated",), "org/gated is gated: accept its terms"),
        (
            ("org/model", "--revision", "v9"),
            "org/model at v9 does not exist on the hub: the model has no such revision",
        ),
        (("org/model", "--subfolder", "vae"), "org/model has no vae/config.json: correct --subfolder"),
        (("org/empty",), "org/empty has no config.json at its root or in vae"),
        (("org/pickle",), "org/pickle has its weights only as a pickle"),
        (("org/model", "--variant", "ema"), "org/model has no weights of the variant 'ema'"),
    ):
        assert_refused(inspect(hub, *arguments, cwd=tmp_path), sentence)
    assert hub.fetched == []


def test_without_a_connection_the_cache_is_read_or_one_sentence_given(hub: FakeHub, tmp_path: Path) -> None:
    assert inspect(hub, "org/pipeline", cwd=tmp_path).returncode == 0
    for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = inspect(None, "org/pipeline", cwd=tmp_path, **offline)
        assert json.loads(done.stdout)["family"] == "AutoencoderKL", done.stderr
        refused = inspect(None, "org/model", cwd=tmp_path, **offline)
        assert_refused(
            refused, "org/model is not a local path, the hub cannot be reached, and its cache does not hold the model"
        )


def test_a_local_path_is_never_asked_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    shutil.copytree(hub.root / "org" / "model", tmp_path / "org" / "model")
    assert inspect(None, "org/model", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("stabilityai/sdxl-vae", True),
        ("black-forest-labs/FLUX.1-dev", True),
        ("Lightricks/LTX-2.3", True),
        ("models/ae.safetensors", False),
        ("models/model.ckpt", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("../b", False),
        ("name", False),
        ("-/b", False),
        ("./models/vae", False),
        ("models/vae/", False),
        ("~/vae", False),
        ("models//vae", False),
        ("C:\\vae", False),
        ("C:/vae", False),
        ("models\\vae", False),
        ("models/VAE.SafeTensors", False),
        ("a/b\n", False),
        ("a/..", False),
        ("", False),
        ("hf://stabilityai/sdxl-vae", True),
        ("hf://name", False),
        ("hf://a/../b", False),
    ],
)
def test_what_looks_like_a_hub_id(source: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_address(source) == (HubAddress(source.removeprefix("hf://")) if expected else None)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("org/name/ae.safetensors", HubAddress("org/name", file="ae.safetensors")),
        ("org/name/a/b/ae.ckpt", HubAddress("org/name", file="a/b/ae.ckpt")),
        ("hf://org/name/ae.safetensors", HubAddress("org/name", file="ae.safetensors")),
        ("hf://org/name/vae", HubAddress("org/name", folder="vae")),
        ("hf://org/name@refs%2Fpr%2F1/ae.sft", HubAddress("org/name", "refs%2Fpr%2F1", file="ae.sft")),
        ("https://huggingface.co/org/name", HubAddress("org/name")),
        ("https://huggingface.co/org/name/", HubAddress("org/name")),
        ("https://huggingface.co/org/name/tree/main/vae", HubAddress("org/name", "main", "vae")),
        (
            "https://huggingface.co/org/name/resolve/main/x.safetensors?download=true",
            HubAddress("org/name", "main", file="x.safetensors"),
        ),
        ("https://hf.co/org/name/blob/v1/a/x.safetensors", HubAddress("org/name", "v1", file="a/x.safetensors")),
        (
            "https://huggingface.co/org/name/blob/refs%2Fpr%2F1/x.safetensors",
            HubAddress("org/name", "refs/pr/1", file="x.safetensors"),
        ),
        ("hf://org/name/../x", None),
        ("hf://org/name/.x", None),
        ("./org/name/ae.safetensors", None),
        ("org/name/../ae.safetensors", None),
    ],
)
def test_addresses_of_files_and_folders_on_the_hub(
    source: str, expected: HubAddress | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_address(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/org/name/resolve/main/x.safetensors",
        "https://huggingface.co.evil.org/org/name",
        "https://user@huggingface.co/org/name",
        "https://huggingface.co/datasets/org/name/resolve/main/x.safetensors",
        "https://huggingface.co/org",
        "ftp://huggingface.co/org/name",
        "s3://bucket/name",
        "http://[",
    ],
)
def test_other_addresses_are_refused_and_not_asked(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"nothing is fetched from other places|is not the address of a model"):
        open_checkpoint(source)


def test_a_single_file_is_fetched_by_its_name_its_address_and_alone(
    hub: FakeHub, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    single = hub.root / "org" / "single"
    single.mkdir()
    named = {f"vae.{name}": value for name, value in load_file(checkpoint_of("sd") / WEIGHTS).items()}
    save_file(named, single / "ae.safetensors")
    (single / "README.md").write_text("# A file")
    for source in (
        "org/single",
        "org/single/ae.safetensors",
        "hf://org/single/ae.safetensors",
        f"{hub.url}/org/single/resolve/main/ae.safetensors",
        f"{hub.url}/org/single/blob/main/ae.safetensors",
    ):
        done = inspect(hub, source, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["family"] == "AutoencoderKL"
    assert hub.fetched == ["ae.safetensors"]
    assert inspect(None, "org/single/ae.safetensors", cwd=tmp_path).returncode == 0  # from the cache


def test_several_files_and_a_missing_file_are_listed_and_nothing_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    several = hub.root / "org" / "several"
    several.mkdir()
    for name in ("a.safetensors", "b.safetensors", "old.ckpt"):
        (several / name).write_bytes(b"weights")
    refused = inspect(hub, "org/several", cwd=tmp_path)
    assert_refused(
        refused, "2 files of weights (a.safetensors, b.safetensors): give one of them, as hf://org/several/a"
    )
    assert_refused(inspect(hub, "org/several/c.safetensors", cwd=tmp_path), "has no file c.safetensors: it has a.safe")
    assert_refused(inspect(hub, "org/several/old.ckpt", cwd=tmp_path), "is a pickle, which can run code when")
    assert_refused(
        inspect(hub, "hf://org/several@main/a.safetensors", "--revision", "v2", cwd=tmp_path),
        "the address names the revision main, and --revision names v2: give one",
    )
    assert hub.fetched == []


def test_a_diffusers_file_is_fetched_with_its_config(hub: FakeHub, tmp_path: Path) -> None:
    done = inspect(hub, f"org/pipeline/vae/{WEIGHTS}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(hub.fetched) == ["vae/config.json", f"vae/{WEIGHTS}"]


def test_a_path_with_a_spelling_mistake_is_not_asked_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    for source in ("./org/model", "../model", "~/model", str(tmp_path / "model"), "org/model/", "C:\\model", "./model"):
        assert_refused(inspect(hub, source, cwd=tmp_path), "does not exist: give a folder")
    refused = inspect(hub, "org/model", cwd=tmp_path)
    assert_refused(refused, "org/model does not exist, and org exists here, so it is taken as a path")
    assert_refused(refused, "write hf://org/model")
    assert hub.asked == []
    assert inspect(hub, "hf://org/model", cwd=tmp_path).returncode == 0
    assert sorted(hub.fetched) == ["config.json", WEIGHTS]


def test_a_missing_file_is_not_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Path("./models/vae")` reads as "models/vae", which has the form of a model's name."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # asking would need it
    for name in ("nothing", "a/b/c", "models/ae.safetensors", "./models/vae"):
        with pytest.raises(CheckpointError, match="does not exist"):
            open_checkpoint(Path(name))


def test_without_huggingface_hub_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r'pip install "latentrt\[hub\]"'):
        open_checkpoint("org/name")
