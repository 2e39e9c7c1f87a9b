"""What the distributions hold and what installing them adds: `latentrt` and nothing else."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from places import ROOT

pytestmark = pytest.mark.slow

FOLDERS = ("cli", "export", "integrations", "root", "runtime", "tiling")
OURS = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Built:
    """A copy of the source tree and what was built there, without a network."""

    tree: Path
    sdist: Path
    wheel: Path
    wheel_from_sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("packaging")
    tree = folder / "tree"
    tree.mkdir()
    for name in (*FOLDERS, "tests", "scripts"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=OURS)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tree)
    # Without a format, build makes the sdist and then the wheel from the sdist alone.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(tree))
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder / "direct"), str(tree))
    [sdist], [wheel_from_sdist] = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    [wheel] = (folder / "direct").glob("*.whl")
    return Built(tree, sdist, wheel, wheel_from_sdist)


def test_the_wheel_holds_the_folders_whole_and_nothing_else(built: Built) -> None:
    wanted = {
        "latentrt/" + path.relative_to(built.tree).as_posix().removeprefix("root/")
        for folder in FOLDERS
        for path in (built.tree / folder).rglob("*")
        if path.is_file()
    }
    held = {name for name in names_in(built.wheel) if ".dist-info/" not in name}
    assert held == wanted


def test_the_only_top_level_name_is_latentrt(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/top_level.txt")]
        assert archive.read(name).split() == [b"latentrt"]
    tops = {PurePosixPath(name).parts[0] for name in names_in(built.wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"latentrt"}


def test_the_wheel_holds_the_type_marks_and_the_licence(built: Built) -> None:
    names = names_in(built.wheel)
    assert {"latentrt/py.typed", *(f"latentrt/{folder}/py.typed" for folder in FOLDERS if folder != "root")} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_holds_the_demo_models(built: Built) -> None:
    names = names_in(built.wheel)
    for kind in ("image", "video"):
        assert f"latentrt/export/demo/{kind}/config.json" in names
        assert any(name.startswith(f"latentrt/export/demo/{kind}/") and name.endswith(".safetensors") for name in names)


def test_the_sdist_holds_what_a_developer_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "tests/conftest.py"}
    wanted |= {"tests/house/test_packaging.py", "tests/support/architectures.py"}
    wanted |= {f"scripts/{name}" for name in ("quickstart", "test", "check", "environment", "constraints.txt")}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("scripts/namespace", ".")) or "__pycache__" in name]


def test_the_wheel_from_the_sdist_is_the_wheel_from_the_tree(built: Built) -> None:
    assert names_in(built.wheel_from_sdist) == names_in(built.wheel)


def test_every_folder_with_python_files_is_declared_as_a_package() -> None:
    # In the editable install an undeclared one works too, and then it is missing from the wheel.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert {".".join(("latentrt", *folder.parts)).replace("latentrt.root", "latentrt") for folder in folders} == set(
        settings["tool"]["setuptools"]["packages"]
    )


def test_installing_the_wheel_adds_latentrt_alone_and_its_command_works(built: Built, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    [site] = environment.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", str(built.wheel))
    added = {path.name for path in site.iterdir()}
    assert {name for name in added if not name.endswith(".dist-info")} == {"latentrt"}
    assert len(added) == 2

    # Its dependencies come from the tests' own environment, whose editable latentrt a path entry does not bring.
    paths = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    help_text = run(str(environment / "bin" / "latentrt"), "--help", cwd=tmp_path, env=variables)
    assert "export" in help_text
    code = "import latentrt.export, latentrt.runtime, latentrt.tiling; print(latentrt.__file__)"
    assert Path(run(str(python), "-c", code, cwd=tmp_path, env=variables).strip()).is_relative_to(site)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_installation_of_the_tests_leaks_no_top_level_name(folder: str, tmp_path: Path) -> None:
    code = f"import importlib.util, latentrt; print(importlib.util.find_spec({folder!r}) is not None)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "False"
    assert run(sys.executable, "-c", code, cwd=ROOT).strip() == "True", "the check cannot fail"


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
