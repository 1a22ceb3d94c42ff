"""Rules that a machine can check: imports go down and in no circle, knobs are keywords, files stay small."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "pie_jax"

# A module imports only what lies on a lower floor, or in its own room.
FLOORS = (
    {"errors", "arrays", "bounds", "config"},
    {"runtime", "imaging", "io"},
    {"programs"},
    {"face3d", "optimise"},
    {"nn"},
    {"cli", "pack"},
    {"photo"},
    {"energy"},
    {"portrait"},
    {"packs", "studio"},
    {"embed"},
    {"edit"},
    {"view", "drive", "notebook"},
    {"training"},
    {"tuning"},
    {"__main__"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
CONVERTERS = sorted((ROOT / "converters").rglob("*.py"))

# Parameters that may be given by place although they have a default.
GRAMMAR_EXCEPTIONS = {
    "main": {"argv"},  # every command's door: None means sys.argv
    "parse_args": {"args", "namespace"},  # overrides argparse.ArgumentParser.parse_args
}


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


COMPILED = {"serialize_executable"}  # JAX keeps compiled programs nowhere else


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_wildcards_and_no_experimental(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), path
            names = {alias.name for alias in node.names} if path.name == "programs.py" else set()
            assert not (node.module or "").startswith("jax.experimental") or names == COMPILED, path


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


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: pathlib.Path, modules: set[str]) -> set[str]:
    """The modules of the package that `path` imports anywhere, inside functions too."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {inner if (inner := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return (found & modules) - {module_name(path)}


def test_no_circle_of_imports():
    modules = {module_name(path) for path in FILES}
    graph = {module_name(path): imported_modules(path, modules) for path in FILES}
    assert sum(map(len, graph.values())) > len(modules)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def public_functions(tree: ast.AST):
    """Public functions and methods; what is inside a function or a private class is nobody's interface."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                yield node
        elif not (isinstance(node, ast.ClassDef) and node.name.startswith("_")):
            yield from public_functions(node)


@pytest.mark.parametrize("path", [*FILES, *CONVERTERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_parameter_with_a_default_is_given_by_name(path):
    for function in public_functions(ast.parse(path.read_text())):
        given = [*function.args.posonlyargs, *function.args.args]
        optional = {argument.arg for argument in given[len(given) - len(function.args.defaults):]}
        wrong = optional - GRAMMAR_EXCEPTIONS.get(function.name, set())
        assert not wrong, f"{path}:{function.lineno}: {function.name}: put {sorted(wrong)} after *"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_backend_is_data(path):
    """`runtime.backend()` says what programs are made for; nothing else asks JAX."""
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "default_backend" not in names, path


@pytest.mark.parametrize("path", [*FILES, *CONVERTERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_are_annotated(path):
    for function in public_functions(ast.parse(path.read_text())):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare, f"{path}:{function.lineno}: {function.name} lacks the types of {bare}"
        assert function.returns is not None, f"{path}:{function.lineno}: {function.name} lacks the type of its result"


def test_keys_are_looked_after_where_random_numbers_are_drawn():
    conftest = ast.parse((ROOT / "tests" / "conftest.py").read_text())
    looked_after = next(ast.literal_eval(node.value) for node in conftest.body if isinstance(node, ast.Assign)
                        and getattr(node.targets[0], "id", "") == "DRAWING")
    drawing = {path.relative_to(PACKAGE).parts[0] for path in FILES if "jax.random" in path.read_text()}
    assert drawing <= looked_after
