"""A Git LFS pointer or a web page in the place of latents, a picture or a clip is named, with the cure."""

from pathlib import Path
from typing import Any

import pytest

from latentrt.runtime.errors import MediaError
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import read_latents
from latentrt.runtime.media.pictures.picture_file import read_picture

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "reason"), [(LFS, r"Git LFS pointer, .*git lfs pull"), ("<!doctype html>", "web page")]
)
@pytest.mark.parametrize("name", ["z.safetensors", "z.npy", "a.png", "a.mp4"])
def test_what_lies_in_the_place_of_a_file_is_named(name: str, content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    read: Any = {".png": read_picture, ".mp4": open_clip}.get(path.suffix, read_latents)
    with pytest.raises(MediaError, match=reason) as caught:
        read(path)
    assert "\n" not in str(caught.value)
