"""Rooms are small, and each has a sign on its door."""

import ast
from pathlib import Path

from places import ROOT

FOLDERS = ("cli", "export", "integrations", "root", "runtime", "tiling")
MOST_MODULES = 25  # of a room
MOST_LINES = 350  # of a module
LEAST_WORDS = 15  # of a sign


def test_no_room_has_too_many_modules() -> None:
    assert [room for room in rooms() if len(list(room.glob("*.py"))) > MOST_MODULES] == []


def test_no_module_is_too_long() -> None:
    assert [path for room in rooms() for path in room.glob("*.py") if lines_of(path) > MOST_LINES] == []


def test_every_room_has_a_sign_of_a_paragraph() -> None:
    assert [room for room in rooms() if len(sign_of(room).split()) < LEAST_WORDS] == []


def test_all_rooms_are_looked_at() -> None:
    found = {room.relative_to(ROOT).as_posix() for room in rooms()}
    assert {"cli", "root", "tiling", "runtime/media/clips", "export/checkpoints"} <= found
    assert len(found) > 30


def rooms() -> list[Path]:
    return sorted({path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")})


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def sign_of(room: Path) -> str:
    return ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
