"""Names of latents files: one for each source, found again when others come to the folder."""

import unicodedata
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest

from latentrt.runtime.files.output_names import output_names
from latentrt.runtime.media.encode_record import source_name

OUT = Path("out")


def named(sources: Sequence[str], held: dict[str, str | None] | None = None) -> dict[str, str]:
    return {
        source: target.name
        for source, target in zip(sources, output_names([Path(one) for one in sources], OUT, held or {}), strict=True)
    }


def as_held(names: dict[str, str]) -> dict[str, str | None]:
    return {target: source_name(Path(source)) for source, target in names.items()}


def test_a_source_gets_its_stem_or_its_whole_name_where_stems_meet() -> None:
    assert named(["a.png", "b.png", "b.webp"]) == {
        "a.png": "a.safetensors",
        "b.png": "b.png.safetensors",
        "b.webp": "b.webp.safetensors",
    }


def test_no_two_sources_share_a_name_where_case_and_unicode_forms_do_not_count() -> None:
    composed = unicodedata.normalize("NFC", "é")
    spellings = [
        "a.png", "a.PNG", "A.png", "a.png.png", "a.jpg", "a.jpg.png", "a.png.jpg",
        f"{composed}.png", unicodedata.normalize("NFD", composed) + ".png", "ß.png", "SS.png", "ss.png",
    ]  # fmt: skip
    for sources in (spellings, spellings[::-1]):
        names = named(sources)
        keys = {unicodedata.normalize("NFC", name.casefold()) for name in names.values()}
        assert len(keys) == len(sources)
        assert named(sources, as_held(names)) == names, "a rerun finds each again"


def test_a_source_keeps_its_file_when_others_come_or_go() -> None:
    sources = ["a.png", "a.jpg", "a.PNG", "a.png.png", "a.safetensors.png"]
    for order in permutations(sources):
        held: dict[str, str | None] = {}
        before: dict[str, str] = {}
        for count in range(1, len(order) + 1):
            names = named(sorted(order[:count]), held)
            assert before.items() <= names.items()
            assert len({name.casefold() for name in names.values()}) == count
            before, held = names, held | as_held(names)
        assert named([order[-1]], held) == {order[-1]: before[order[-1]]}, "the others may go, too"


def test_a_file_that_another_source_owns_is_never_taken() -> None:
    assert named(["a.jpg"], {"a.safetensors": "a.png"}) == {"a.jpg": "a.jpg.safetensors"}
    taken: dict[str, str | None] = {"a.safetensors": "a.png", "a.jpg.safetensors": "a.jpg.tif"}
    assert named(["a.jpg"], taken)["a.jpg"].startswith("a.jpg-")


def test_a_file_of_an_earlier_version_is_recognised_by_its_stem() -> None:
    assert named(["a.png"], {"a.safetensors": None}) == {"a.png": "a.safetensors"}
    assert named(["a.png", "a.jpg"], {"a.safetensors": None}) == {
        "a.png": "a.png.safetensors",
        "a.jpg": "a.jpg.safetensors",
    }


def test_an_output_name_that_would_be_too_long_is_cut_and_stays_its_own() -> None:
    long = ["l" * 251 + ".png", "l" * 250 + "m.png", "l" * 244 + ".png", "日" * 83 + ".jpeg", "\udcff" * 251 + ".png"]
    names = named(long)
    assert len(set(names.values())) == len(long)
    assert all(len(name.encode("utf-8", "surrogateescape")) <= 255 for name in names.values())
    assert all(name.endswith(".safetensors") for name in names.values())
    assert names["日" * 83 + ".jpeg"].startswith("日" * 70), "no character is torn"
    assert named(long[::-1], as_held(names)) == names, "a rerun finds each again"
    assert named(["l" * 243 + ".png"]) == {"l" * 243 + ".png": "l" * 243 + ".safetensors"}, "this one fits"


def test_a_file_system_with_shorter_names_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.pathconf", lambda path, name: 143, raising=False)  # as eCryptfs answers
    assert len(named(["l" * 140 + ".png"])["l" * 140 + ".png"]) == 143


def test_outputs_with_other_endings_are_named_alike() -> None:
    paths = [Path("a.safetensors"), Path("a.npy"), Path("b.npy"), Path("a.png.npy")]
    outputs = output_names(paths, OUT, {}, endings=[".png", ".png", ".png", ".png"])
    assert [path.name for path in outputs] == ["a.safetensors.png", "a.npy.png", "b.png", "a.png.png"]
    assert [path.name for path in output_names(paths[:2], OUT, {}, endings=[".png", ".mp4"])] == ["a.png", "a.mp4"]
