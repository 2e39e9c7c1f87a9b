"""What the documents name exists: commands with their options, links, scripts, paths; ARCHITECTURE.md has every room.

A check of all documents is one test, which lists everything that is wrong. A second test shows that the check can fail.
"""

import pkgutil
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from places import ROOT

from latentrt.cli.main import cli

PACKAGES = ("cli", "export", "integrations", "root", "runtime", "tiling")
FOLDERS = "|".join((*PACKAGES, "benchmarks", "docs", "scripts", "tests"))
LOOKED_AT = ("*.md", "docs/**/*.md", "benchmarks/*.md", "export/demo/*.md", "scripts/demo_training/*.md")
DOCUMENTS = sorted({path for pattern in LOOKED_AT for path in ROOT.glob(pattern)})
MOST_LINES = 120
UNWANTED_WORDS = ("beside", "told", "tells", "nobody", "whatever", "whoever")
QUOTES_THEM = ("CHANGELOG.md", "CONTRIBUTING.md")  # the history, and the rule itself


def test_every_command_with_its_options_exists() -> None:
    assert in_documents(wrong_commands) == []


def test_a_command_or_an_option_that_does_not_exist_is_seen() -> None:
    text = "`latentrt decode bundle z.safetensors --fast` and `latentrt bake x`, not `latentrt decode z --stream`"
    assert wrong_commands(text, ROOT) == ["latentrt decode --fast", "latentrt bake"]


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    assert in_documents(wrong_links) == []


def test_a_link_to_a_file_or_a_heading_that_does_not_exist_is_seen() -> None:
    good = "[a](README.md) [b](README.md#two-commands) [c](#heading) [d](https://example.org/none)\n# Heading\n"
    bad = "[e](NONE.md) ![f](docs/none.png) [g](README.md#none) [h](#none)\n"
    assert wrong_links(good + bad, ROOT) == ["NONE.md", "docs/none.png", "README.md#none", "#none"]


def test_every_path_exists() -> None:
    history = ROOT / "CHANGELOG.md"  # it keeps the names of its time
    assert in_documents(wrong_paths, (path for path in DOCUMENTS if path != history)) == []


def test_a_path_that_does_not_exist_is_seen() -> None:
    good = "`runtime/errors.py`, `tests/house/`, scripts/check, `export/checkpoints/ltx2_*.py`, to/scripts/x"
    bad = "`runtime/none.py`, runtime/none/, `docs/none.md`, scripts/none and `export/checkpoints/*_none.py`."
    wanted = {"runtime/none.py", "runtime/none/", "docs/none.md", "scripts/none", "export/checkpoints/*_none.py"}
    assert set(wrong_paths(good + "\n" + bad, ROOT)) == wanted


def test_every_name_in_python_exists() -> None:
    assert in_documents(wrong_names) == []


def test_a_name_in_python_that_does_not_exist_is_seen() -> None:
    text = (
        "`latentrt.runtime.open_bundle`, `from latentrt.tiling.plan import Plan`, latentrt.runtime.none.X, latentrt.no."
    )
    assert wrong_names(text, ROOT) == ["latentrt.runtime.none.X", "latentrt.no"]


def test_architecture_has_a_row_for_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert wrong_rooms(text, rooms_of(ROOT)) == []


def test_a_room_without_a_row_and_a_row_without_a_room_are_seen(tmp_path: Path) -> None:
    for folder in ("cli", "runtime/media/clips", "export/demo/pictures"):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("cli", "runtime", "runtime/media", "runtime/media/clips", "export"):
        (tmp_path / package / "__init__.py").touch()
    text = (
        "| room | |\n|---|---|\n| `cli/` | a |\n| `runtime/media/` | b |\n| `runtime/none/` | c |\n| `export/` | d |\n"
    )
    assert rooms_of(tmp_path) == {"cli/", "export/", "runtime/", "runtime/media/", "runtime/media/clips/"}
    wanted = ["runtime/ has no row", "runtime/media/clips/ has no row", "runtime/none/ is no room"]
    assert wrong_rooms(text, rooms_of(tmp_path)) == wanted


def test_the_readme_and_the_map_are_short() -> None:
    assert [name for name in ("README.md", "ARCHITECTURE.md") if is_long((ROOT / name).read_text("utf-8"))] == []


def test_the_python_of_the_readme_runs(
    bundle_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "bundle").symlink_to(bundle_of("sd"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("256, 256", "64, 64").replace(', memory="4GiB"', ""), names)  # planning measures for seconds
    assert names["y"].shape == names["x"].shape
    assert (names["pixels"].shape, names["pixels"].dtype) == ((1, 64, 64, 3), np.uint8)


def test_a_long_document_is_seen() -> None:
    assert is_long("a line\n" * (MOST_LINES + 1))
    assert not is_long("a line\n" * MOST_LINES)


def test_every_decision_is_numbered_dated_and_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    records = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("[0-9]*.md"))}
    assert wrong_decisions(records, (folder / "README.md").read_text(encoding="utf-8")) == []


def test_a_decision_without_its_number_its_date_or_its_line_in_the_index_is_seen() -> None:
    records = {
        "0001-a.md": "# 1. A\n\n2026-11-22\n",
        "0003-b.md": "# 2. B\n\n2026-11-22\n",
        "0003-c.md": "# 3. C\n\nSoon\n",
    }
    wanted = ["0003-b.md has not the number 2", "0003-c.md has no date", "0003-c.md is not in the index"]
    assert wrong_decisions(records, "(0001-a.md) (0003-b.md)") == wanted


def test_no_document_has_a_word_that_plain_english_avoids() -> None:
    assert in_documents(unwanted_words, (path for path in DOCUMENTS if path.name not in QUOTES_THEM)) == []


def test_such_a_word_is_seen() -> None:
    assert unwanted_words("Beside the file nobody looks; `besides` is another word.", ROOT) == ["Beside", "nobody"]


def test_every_size_is_height_by_width_by_frames() -> None:
    assert in_documents(wrong_sizes) == []
    guides = [path for path in DOCUMENTS if path.parent.name not in ("benchmarks", "decisions")]
    assert sizes_in_both_orders({path.name: path.read_text(encoding="utf-8") for path in guides}) == []


def test_a_size_in_another_order_is_seen() -> None:
    text = "`--size 384x544x121`, latents 1x4x8x8, a clip of 121x384x544 and one of 9x64x96"
    assert wrong_sizes(text, ROOT) == ["121x384x544", "9x64x96"]
    texts = {"a.md": "384x544x121, 512x512, -video_size 768x512", "b.md": "121 frames of 544x384, 512x768"}
    assert sizes_in_both_orders(texts) == ["384x544 in a.md and 544x384 in b.md"]


def in_documents(check: Callable[[str, Path], list[str]], paths: Iterable[Path] = DOCUMENTS) -> list[str]:
    """Everything that `check(text, folder)` finds wrong in the documents, each with the name of its document."""
    return [
        f"{path.relative_to(ROOT)}: {wrong}"
        for path in paths
        for wrong in check(path.read_text(encoding="utf-8"), path.parent)
    ]


def wrong_commands(text: str, _: Path) -> list[str]:
    context, wrong = click.Context(cli), []
    for name, words in re.findall(r"(?<!from )\blatentrt ([a-z]+)([^`\n#|;]*)", text):
        command = cli.get_command(context, name)
        if command is None:
            wrong.append(f"latentrt {name}")
            continue
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        options |= {name for one in command.params for name in getattr(one, "former_opts", ())}  # in the history
        wrong += [
            f"latentrt {name} {one}" for one in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", words) if one not in options
        ]
    return wrong


def wrong_links(text: str, folder: Path) -> list[str]:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = link.partition("#")
        path = folder / name
        if "://" not in link and not (path.exists() and (not heading or heading in headings(path if name else text))):
            wrong.append(link)
    return wrong


def headings(document: Path | str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them. A document is a file or a text."""
    text = document if isinstance(document, str) else document.read_text(encoding="utf-8")
    kept = (re.sub(r"[^\w\- ]", "", line.lower()) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return {line.replace(" ", "-") for line in kept}


def wrong_paths(text: str, _: Path) -> list[str]:
    """Paths of the checkout that do not exist: scripts, and names that end as those of files and folders do."""
    named = re.findall(
        rf"(?<![\w/.(-])((?:{FOLDERS})/(?:[\w*/-]+\.(?:py|md|json|txt|png)\b|(?:[\w-]+/)*(?![\w*./-])))", text
    )
    scripts = re.findall(r"(?<![\w/.(-])(scripts/\w+)(?![\w./*])", text)
    return [path for path in dict.fromkeys((*named, *scripts)) if not list(ROOT.glob(path))]


def wrong_names(text: str, _: Path) -> list[str]:
    """Dotted names of ours that cannot be imported."""
    return [name for name in re.findall(r"(?<![\w/.-])latentrt(?:\.\w+)+", text) if not is_importable(name)]


def is_importable(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def rooms_of(root: Path) -> set[str]:
    """Every folder of the packages that holds modules, as ARCHITECTURE.md writes it."""
    inits = (path for package in PACKAGES for path in (root / package).rglob("__init__.py"))
    return {f"{path.parent.relative_to(root).as_posix()}/" for path in inits}


def wrong_rooms(text: str, rooms: set[str]) -> list[str]:
    rows = set(re.findall(r"^\| `([\w/]+/)` \|", text, re.MULTILINE))
    missing = [f"{room} has no row" for room in sorted(rooms - rows)]
    return missing + [f"{room} is no room" for room in sorted(rows - rooms)]


def is_long(text: str) -> bool:
    return len(text.splitlines()) > MOST_LINES


def wrong_decisions(records: dict[str, str], index: str) -> list[str]:
    wrong = []
    for number, (name, text) in enumerate(records.items(), 1):
        if not (name.startswith(f"{number:04d}-") and text.startswith(f"# {number}. ")):
            wrong.append(f"{name} has not the number {number}")
        if not re.search(r"^\d{4}-\d{2}-\d{2}$", text, re.MULTILINE):
            wrong.append(f"{name} has no date")
        if f"({name})" not in index:
            wrong.append(f"{name} is not in the index")
    return wrong


def unwanted_words(text: str, _: Path) -> list[str]:
    return re.findall(rf"\b(?:{'|'.join(UNWANTED_WORDS)})\b", text, re.IGNORECASE)


def wrong_sizes(text: str, _: Path) -> list[str]:
    """Sizes of clips that begin with the frames: 1 + a multiple of 8, before two multiples of 32."""
    found = re.findall(r"(?<![\dx.])(\d+)x(\d+)x(\d+)(?![\dx])", text)
    return [
        f"{a}x{b}x{c}" for a, b, c in found if int(a) % 8 == 1 and int(b) % 32 == int(c) % 32 == 0 and int(c) % 8 != 1
    ]


def sizes_in_both_orders(texts: dict[str, str]) -> list[str]:
    """Sizes that one document writes as height x width, and another one, or the same one, as width x height."""
    places: dict[tuple[str, str], str] = {}
    for name, text in texts.items():
        ours = re.sub(r"-(?:video_size|s) \d+x\d+", "", text)  # options of ffmpeg, which takes the width first
        for found in re.finditer(r"(?<![\dx.])(\d{2,})x(\d{2,})(?![\d])(?!x\d+x)", ours):
            places.setdefault((found[1], found[2]), name)
    return [
        f"{a}x{b} in {name} and {b}x{a} in {places[b, a]}"
        for (a, b), name in places.items()
        if a < b and (b, a) in places
    ]
