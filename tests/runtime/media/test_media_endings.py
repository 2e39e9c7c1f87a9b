"""Which pictures and clips are read: every format that is listed opens, and nothing that names other files does."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from latentrt.runtime.errors import MediaError
from latentrt.runtime.files.folder_contents import FolderContents
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.endings import CLIP_INPUT_ENDINGS, PICTURE_FORMATS, PICTURE_INPUT_ENDINGS
from latentrt.runtime.media.pictures.picture_file import read_picture

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "GIF", "JPEG2000")
_ENCODERS = {
    ".avi": "mpeg4",
    ".mpg": "mpeg1video",
    ".vob": "mpeg2video",
    ".m2v": "mpeg2video",
    ".ts": "mpeg2video",
    ".m2ts": "libx264",
    ".wmv": "wmv2",
    ".flv": "flv",
    ".f4v": "libx264",
    ".3gp": "mpeg4",
    ".mxf": "mpeg2video",
    ".y4m": "wrapped_avframe",
    ".qt": "mpeg4",
}
_CONTAINERS = {".qt": "mov", ".m2ts": "mpegts", ".f4v": "mp4", ".m2v": "mpeg2video", ".y4m": "yuv4mpegpipe"}


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, 255 - rows * 4], -1).astype(np.uint8)


@pytest.mark.parametrize("ending", PICTURE_INPUT_ENDINGS)
def test_a_picture_of_every_listed_ending_is_read(tmp_path: Path, ending: str) -> None:
    Image.init()
    name = Image.registered_extensions()[ending]
    assert name in PICTURE_FORMATS
    path, pixels = tmp_path / f"a{ending.upper()}", ramp()
    if ending == ".pgm":
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    if ending == ".pbm":
        pixels = np.where(pixels[..., :1] > 100, 255, 0).astype(np.uint8).repeat(3, axis=2)
    image = Image.fromarray(pixels)
    image = {".pgm": image.convert("L"), ".pbm": image.convert("1")}.get(ending, image)
    image.save(path, format=name, **({"quality": 95} if name in ("JPEG", "AVIF", "WEBP") else {}))
    read = read_picture(path)
    assert read.shape == pixels.shape
    assert np.abs(read.astype(int) - pixels).mean() < (8 if name in _LOSSY else 1e-9)


@pytest.mark.parametrize("ending", sorted(_ENCODERS))
def test_a_clip_of_a_further_container_is_read(tmp_path: Path, ending: str) -> None:
    path, rate = tmp_path / f"a{ending}", 25
    with av.open(str(path), "w", format=_CONTAINERS.get(ending)) as container:
        stream: Any = container.add_stream(_ENCODERS[ending], rate=rate)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(9):
            pixels = np.full((144, 176, 3), 60 + 15 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert ending in CLIP_INPUT_ENDINGS
    with open_clip(path) as clip:
        assert clip.frame_rate == rate
        means = [float(frame.mean()) for frame in clip]
    np.testing.assert_allclose(means, [60 + 15 * index for index in range(9)], atol=6)


def test_a_cut_off_avi_is_refused(tmp_path: Path) -> None:
    test_a_clip_of_a_further_container_is_read(tmp_path, ".avi")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(MediaError, match="cut off"):
        open_clip(tmp_path / "a.avi")


@pytest.mark.parametrize("ending", [".ts", ".avi", ".mpg", ".ogv", ".asf", ".mxf"])
def test_a_playlist_with_the_name_of_a_clip_opens_no_other_file(tmp_path: Path, ending: str) -> None:
    test_a_clip_of_a_further_container_is_read(tmp_path, ".y4m")
    target = tmp_path / "a.y4m"
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"[Reference]\nRef1=http://localhost:9/{target.name}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    ):
        (tmp_path / f"list{ending}").write_text(text)
        with pytest.raises(MediaError, match=r"is not a whole video|is a JSON text: give a clip"):
            open_clip(tmp_path / f"list{ending}")


def test_programs_and_documents_are_no_pictures(tmp_path: Path) -> None:
    image = Image.fromarray(ramp())
    for name in ("EPS", "PDF"):
        image.save(tmp_path / "a.png", format=name)
        with pytest.raises(
            MediaError, match=r"not a picture of a format|is a (text file|PDF document): give a picture"
        ):
            read_picture(tmp_path / "a.png")


def test_what_a_folder_leaves_out_is_counted_by_kind_with_a_reason(tmp_path: Path) -> None:
    for name in ("a.tif", "b.gif", "c.mp4", "d.txt", "e.txt", "f.heic", "._a.tif", "g", "h.npy"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "none.png")
    pictures = FolderContents.of(tmp_path, video=False)
    assert [path.name for path in pictures.pictures] == ["a.tif", "b.gif"]
    reasons = {one.path.name: one.reason for one in pictures.left_out}
    assert reasons.keys() == {
        "c.mp4", "d.txt", "e.txt", "f.heic", "._a.tif", "g", "h.npy", "sub", "dangling.png"
    }  # fmt: skip
    assert "image model" in reasons["c.mp4"]
    assert "hidden" in reasons["._a.tif"]
    assert "folder" in reasons["sub"]
    sentence = pictures.sentence()
    assert sentence is not None
    assert "left out 9 of 11 entries" in sentence
    assert "2 .txt" in sentence
    clips = FolderContents.of(tmp_path, video=True)
    assert [path.name for path in clips.clips] == ["b.gif", "c.mp4"]
    assert [path.name for path in clips.pictures] == ["a.tif"]
    (tmp_path / "pure").mkdir()
    (tmp_path / "pure" / "a.png").touch()
    assert FolderContents.of(tmp_path / "pure", video=False).sentence() is None
