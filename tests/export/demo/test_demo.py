"""The embedded demo: what a newcomer sees first."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import latentrt.export.demo
from latentrt.cli.main import cli
from latentrt.export.figures.drawn_samples import demo_clip, demo_picture
from latentrt.runtime import OutputError, open_bundle
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.pictures.picture_file import read_picture

pytestmark = pytest.mark.slow

DATA = Path(latentrt.export.demo.__path__[0])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    result = CliRunner().invoke(cli, ["demo", str(folder), "--json"], catch_exceptions=False)
    (folder / "report.json").write_text(result.stdout)
    return folder


def test_the_weights_are_small() -> None:
    sizes = {path.parent.name: path.stat().st_size for path in DATA.glob("*/*.safetensors")}
    assert sizes.keys() == {"image", "video"}
    assert all(size <= 2 * 2**20 for size in sizes.values())


def test_pictures_come_through_recognisably(demo: Path) -> None:
    pictures = json.loads((demo / "report.json").read_text())["image"]["pictures"]
    assert {row["input"] for row in pictures} >= {"drawn.png", "chelsea.jpg"}
    assert all(row["psnr_db"] >= 24 for row in pictures)


def test_the_clip_comes_through_recognisably(demo: Path) -> None:
    clip = json.loads((demo / "report.json").read_text())["video"]["clip"]
    assert clip["frames"] == 49
    assert clip["psnr_db"] >= 18


def test_the_sheets_hold_what_went_in_and_what_came_out(demo: Path) -> None:
    sheet = read_picture(demo / "image_side_by_side.png")
    original = read_picture(demo / "inputs" / "drawn.png")
    restored = read_picture(demo / "reconstructions" / "drawn.png")
    assert contains(sheet, original)
    assert contains(sheet, restored)
    with open_clip(demo / "video_side_by_side.mp4") as clip:
        assert sum(1 for _ in clip) == 49


def test_the_bundles_open_and_the_models_export_again(demo: Path, tmp_path: Path) -> None:
    for kind, shape in (("image", (1, 3, 64, 64)), ("video", (1, 3, 9, 64, 64))):
        with open_bundle(demo / f"{kind}_bundle") as vae:
            assert vae(np.zeros(shape, np.float32)).sample.shape == shape
        arguments = [
            "verify",
            str(demo / f"{kind}_bundle"),
            "--source",
            str(demo / f"{kind}_model"),
            "--min-psnr",
            "90",
        ]
        assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0


def test_an_existing_folder_is_left_alone(demo: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        CliRunner().invoke(cli, ["demo", str(demo)], catch_exceptions=False)
    assert (demo / "image_side_by_side.png").is_file()


def test_drawn_inputs_are_the_same_every_time_and_differ_by_seed() -> None:
    np.testing.assert_array_equal(demo_picture(64, 96, seed=1), demo_picture(64, 96, seed=1))
    assert (demo_picture(64, 96, seed=1) != demo_picture(64, 96, seed=2)).any()
    frames = list(demo_clip(5, 64, 96))
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 5
    assert (frames[0] != frames[-1]).any()


def contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    corners = np.argwhere((sheet[: -height + 1, : -width + 1] == picture[0, 0]).all(axis=-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in corners)
