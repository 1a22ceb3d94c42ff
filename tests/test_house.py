"""The house's rules that a machine can check: imports go down only, files stay small, public things are described."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "pie_jax"

# A module imports only what lies on a lower floor, or in its own room.
FLOORS = (
    {"errors", "arrays", "config"},
    {"runtime", "imaging", "io"},
    {"cli", "face3d", "optimise"},
    {"nn"},
    {"pack"},
    {"energy"},
    {"portrait"},
    {"packs", "studio"},
    {"embed", "view"},
    {"edit"},
    {"training"},
    {"tuning"},
    {"__main__"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pie_jax"):
            parts = node.module.split(".")
            yield from ([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pie_jax."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in FLOOR_OF, f"{here}: give the module a floor in tests/test_house.py"
    for there in imported_rooms(path):
        if there in ("__init__", here) or there.startswith("__"):
            continue
        assert there in FLOOR_OF, f"{path}: imports {there}, which has no floor"
        assert FLOOR_OF[there] < FLOOR_OF[here], f"{path}: a room of floor {FLOOR_OF[here]} imports {there}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small_and_described(path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path}: over 400 lines: make it a package"
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not text.strip(), f"{path}: tells nothing about itself"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_wildcards_and_no_experimental(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), path
            assert not (node.module or "").startswith("jax.experimental"), path


def test_no_rooms_for_leftovers():
    assert not [p for p in FILES if p.stem in ("utils", "util", "common", "helpers", "misc")]


def test_public_names_exist_and_are_described():
    import pie_jax

    for name in pie_jax.__all__:
        value = getattr(pie_jax, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


def test_the_package_never_imports_its_tools():
    for path in FILES:
        tops = {node.module.split(".")[0] for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom) and node.module}
        assert not tops & {"tests", "benchmarks", "converters", "torch"}, path
