"""The wheel: small, with all that a user needs and nothing of the checkout; its version and commands."""

import importlib.metadata
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import pie_jax

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 30_000_000  # bytes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    if importlib.util.find_spec("setuptools") is None or int(
            importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("the wheel is built by setuptools of version 77 or later, which is not installed here")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):  # a copy: building leaves files behind
        shutil.copy(ROOT / name, source)
    for name in ("pie_jax", "converters", "benchmarks", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(built)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = built.glob("*.whl")
    return zipfile.ZipFile(found)


def text_of(wheel: zipfile.ZipFile, end: str) -> str:
    (name,) = [name for name in wheel.namelist() if name.endswith(end)]
    return wheel.read(name).decode()


def test_the_wheel_is_small(wheel):
    assert pathlib.Path(wheel.filename).stat().st_size < LIMIT


def test_the_wheel_holds_package_pack_and_notice(wheel):
    names = set(wheel.namelist())
    needed = {str(path.relative_to(ROOT)) for folder in ("pie_jax", "converters") for path in (ROOT / folder).rglob("*")
              if path.is_file() and "__pycache__" not in path.parts}
    assert needed - names == set()
    assert {"pie_jax/py.typed", "pie_jax/packs/demo/manifest.json", "pie_jax/packs/demo/sample.png"} <= names
    for name in ("NOTICE", "LICENSE"):
        assert text_of(wheel, f".dist-info/licenses/{name}") == (ROOT / name).read_text()


def test_the_wheel_leaves_the_checkout_out(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"pie_jax", "converters", f"pie_jax-{pie_jax.__version__}.dist-info"}


def test_version_extras_and_command_of_the_wheel(wheel):
    metadata = text_of(wheel, ".dist-info/METADATA")
    assert f"\nVersion: {pie_jax.__version__}\n" in metadata
    assert {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra: ")} >= {
        "convert", "test"}
    assert "pie = pie_jax.__main__:main" in text_of(wheel, ".dist-info/entry_points.txt")


def test_the_version_stands_in_one_place():
    assert f'"{pie_jax.__version__}"' not in (ROOT / "pyproject.toml").read_text().split("[project.optional")[0]
