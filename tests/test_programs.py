"""Compiled programs outlive the process: made once, read again, and made anew where the file or the code is another."""

import ast
import concurrent.futures
import contextvars
import dataclasses
import pickle
import subprocess
import sys
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pie_jax import programs, runtime


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pair:
    first: jax.Array
    names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(programs, "keeps_programs", lambda: True)
    monkeypatch.setattr(programs, "_used", [])
    monkeypatch.setattr(programs, "_begun", [])
    monkeypatch.setattr(programs, "_ahead", {})
    return tmp_path / "programs"


def made():
    """The same function as in a new process, and how often Python has traced it."""
    traced = []

    def scaled(pair, values, *, by):
        traced.append(by)
        return Pair(pair.first * by + values["x"], pair.names), {"sum": values["x"].sum()}

    return programs.kept(static_argnames="by")(scaled), traced


ARGUMENTS = Pair(np.ones(3, np.float32), ("a", "b")), {"x": np.arange(3, dtype=np.float32)}


def result(function, **statics):
    pair, more = function(*ARGUMENTS, **statics)
    return np.asarray(pair.first).tolist(), pair.names, float(more["sum"])


def test_a_program_is_traced_once_for_all_processes(folder):
    first, traced = made()
    assert result(first, by=2.0) == ([2.0, 3.0, 4.0], ("a", "b"), 3.0) == result(first, by=2.0)
    assert traced == [2.0] and len(list(folder.iterdir())) == 2
    again, traced = made()
    assert result(again, by=2.0) == ([2.0, 3.0, 4.0], ("a", "b"), 3.0) and traced == []
    assert result(again, by=3.0)[0] == [3.0, 4.0, 5.0] and traced == [3.0]  # other static arguments, another program
    np.testing.assert_allclose(again(Pair(np.ones(2, np.float32)), {"x": np.zeros(2, np.float32)}, by=2.0)[0].first, 2)
    assert len(list(folder.iterdir())) == 6


def test_what_follows_from_the_code_is_kept_once(folder):
    made = []

    def make():
        made.append(len(made))
        return {"a": [1, 2]}

    assert programs.kept_json("facts", (1, "x"), make) == programs.kept_json("facts", (1, "x"), make) == {"a": [1, 2]}
    assert len(made) == 1 and programs.kept_json("facts", (2, "x"), make) and len(made) == 2
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"2", b"3"))  # a bit turned over, and JSON all the same
    assert programs.kept_json("facts", (1, "x"), make) == {"a": [1, 2]} and len(made) == 3


def test_a_process_that_lives_long_lets_programs_go(folder, monkeypatch):
    monkeypatch.setattr(programs, "_MOST", 2)
    function, traced = made()
    for by in (1.0, 2.0, 3.0):
        result(function, by=by)
    assert function._cache_size() == 2
    assert result(function, by=1.0)[0] == [1.0, 2.0, 3.0] and traced == [1.0, 2.0, 3.0]  # read again, not traced
    programs.forget()
    assert function._cache_size() == 0 and result(function, by=3.0)[0] == [3.0, 4.0, 5.0]


@pytest.mark.parametrize("kind", ["name", "code"])
def test_a_damaged_file_is_made_again(folder, kind):
    result(made()[0], by=2.0)
    (path,) = (path for path in folder.iterdir() if (path.suffix == ".code") == (kind == "code"))
    for damage in (b"", path.read_bytes()[:-7], b"x" * 400):
        path.write_bytes(damage)
        for expected in ([2.0], []):
            function, traced = made()
            assert result(function, by=2.0) == ([2.0, 3.0, 4.0], ("a", "b"), 3.0) and traced == expected


def code_of(folder):
    (path,) = folder.glob("*.code")
    return path


def test_what_is_no_program_is_made_again(folder):
    result(made()[0], by=2.0)
    for data in (b"no program", zlib.compress(b"no pickle"), zlib.compress(pickle.dumps((b"code", None, None)))):
        programs._write(code_of(folder), data)
        for _ in range(2):  # the second time it is read
            assert result(made()[0], by=2.0) == ([2.0, 3.0, 4.0], ("a", "b"), 3.0)
        assert programs._read(code_of(folder)) != data


def test_a_program_that_was_read_is_not_written_again(folder):
    """XLA's programs lose their code on that way: JAX's compilation cache finds none of them."""
    for _ in range(2):
        result(made()[0], by=2.0)
        for path in folder.iterdir():
            path.unlink()
    result(made()[0], by=2.0)
    function, traced = made()
    assert result(function, by=2.0) == ([2.0, 3.0, 4.0], ("a", "b"), 3.0) and traced == []


def test_other_code_that_lowers_to_the_same_is_compiled_once(folder, monkeypatch):
    result(made()[0], by=2.0)
    monkeypatch.setattr(programs, "_version", lambda: "another")
    monkeypatch.setattr(programs, "compiled", lambda lowered, *, level: pytest.fail("compiled again"))
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == [2.0] and len(list(folder.iterdir())) == 3


def test_programs_that_only_look_alike_are_two(folder):
    def first(a, b):
        return a + 1.0

    def second(b, a):
        return a + 1.0

    def only(a):
        return a + 1.0

    one, two = np.float32(1.0), np.float32(2.0)
    for _ in range(2):
        assert float(programs.kept()(first)(one, two)) == 2.0
        assert float(programs.kept()(second)(one, two)) == 3.0
        assert float(programs.kept()(only)(two)) == 3.0


def test_keys_and_the_numbers_in_them_are_two(folder):
    def keys(x):
        return jax.random.wrap_key_data(x)

    def data(x):
        return x

    for _ in range(2):
        found = programs.kept()(keys)(np.zeros(2, np.uint32)), programs.kept()(data)(np.zeros(2, np.uint32))
        assert found[0].shape == () and found[1].shape == (2,)
        assert programs.kept()(jax.random.key_data)(found[0]).tolist() == [0, 0]


def test_where_nothing_is_kept_it_is_jit(folder, monkeypatch):
    monkeypatch.setattr(programs, "keeps_programs", lambda: False)
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == [2.0] and not folder.exists()


def test_a_folder_that_cannot_be_written_only_costs_the_next_trace(folder):
    folder.write_text("a file where the folder should be")
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == [2.0]


@pytest.mark.parametrize("name,value", [("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
                                        ("LIBTPU_INIT_ARGS", "--x")])
def test_other_flags_make_other_programs(folder, monkeypatch, name, value):
    result(made()[0], by=2.0)
    monkeypatch.setenv(name, value)
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == [2.0] and len(list(folder.glob("*.code"))) == 2


def test_another_machine_makes_other_programs(folder, monkeypatch):
    class Topology:
        def fingerprint(self):
            return 1

    result(made()[0], by=2.0)
    monkeypatch.setattr(runtime, "get_topology_for_devices", lambda devices: Topology())
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == [2.0] and len(list(folder.glob("*.code"))) == 2


def test_a_device_that_tells_nothing_of_itself_is_known_by_its_kind(monkeypatch):
    def silent(devices):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED")

    monkeypatch.setattr(runtime, "get_topology_for_devices", silent)
    assert runtime.compile_target()[0].startswith("cpu ")


def test_a_program_that_cannot_be_written_is_compiled_for_this_process(folder, monkeypatch):
    def refused(compiled):
        raise ValueError("Compilation does not support serialization")

    monkeypatch.setattr(programs.serialize_executable, "serialize", refused)
    function, traced = made()
    assert result(function, by=2.0) == result(function, by=2.0) and traced == [2.0]
    assert not list(folder.glob("*.code"))


def test_a_program_that_calls_python_is_not_kept(folder):
    told = []

    @programs.kept()
    def telling(x):
        jax.debug.callback(lambda value: told.append(float(value)), x)
        return x + 1.0

    assert float(telling(np.float32(2.0))) == 3.0
    jax.effects_barrier()
    assert told == [2.0] and not list(folder.glob("*.code"))


def test_a_process_that_lowers_nothing_finds_lapack(folder):
    """JAX tells XLA where LAPACK is when it lowers a function that needs it; a kept program is not lowered."""
    code = f"""
import pathlib, sys
import jax, numpy as np
from pie_jax import programs
programs.cache_folder = lambda: pathlib.Path({str(folder.parent)!r})
programs.keeps_programs = lambda: True
a = np.diag(np.arange(1.0, 4.0)).astype(np.float32)
print(np.asarray(programs.kept()(jax.numpy.linalg.inv)(a)).diagonal().tolist())
"""
    for _ in range(2):
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        np.testing.assert_allclose(ast.literal_eval(told.stdout), [1.0, 0.5, 1.0 / 3.0], rtol=1e-6)
    assert code_of(folder)


def test_typed_keys_and_optimiser_states_are_kept(folder):
    def stepped(keys, state):
        return jax.vmap(lambda key: jax.random.split(key)[0])(keys), state._replace(count=state.count + 1)

    keys, state = jax.random.split(jax.random.key(0), 2), optax.scale_by_adam().init(np.zeros(2, np.float32))
    expected = programs.kept()(stepped)(keys, state)
    found = programs.kept()(stepped)(keys, state)
    assert isinstance(found[1], optax.ScaleByAdamState) and int(found[1].count) == 1
    assert found[0].dtype == keys.dtype and code_of(folder)
    assert (jax.random.key_data(found[0]) == jax.random.key_data(expected[0])).all()


def test_a_result_whose_class_no_module_defines_is_compiled_for_this_process(folder):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Local:
        value: jax.Array

    def wrapped(x):
        return Local(x + 1.0)

    for _ in range(2):
        assert float(programs.kept()(wrapped)(np.float32(1.0)).value) == 2.0
    assert code_of(folder) and len(list(folder.iterdir())) == 1


def test_inside_another_program_it_is_part_of_that(folder):
    function, _ = made()
    batch = jax.vmap(lambda x: function(Pair(x), {"x": x}, by=2.0)[0].first)(jnp.ones((4, 3)))
    np.testing.assert_allclose(batch, 3.0)
    assert not folder.exists()


def test_the_last_runs_programs_are_read_ahead(folder, monkeypatch):
    monkeypatch.setattr(programs.atexit, "register", lambda *work: at_end.append(work))
    at_end = []
    assert not programs.read_ahead("edit")
    result(made()[0], by=2.0)
    assert not programs.read_ahead("embed")  # a second command of this process
    result(made()[0], by=3.0)
    for work, *arguments in at_end:
        work(*arguments)
    assert len(at_end) == 1 and programs.read_ahead("edit") and not programs._ahead
    programs._used.clear()
    programs._begun.clear()
    programs.read_ahead("edit")
    (ahead,) = programs._ahead.values()
    ahead.ready()
    (name,) = programs._ahead
    (folder / name).unlink()  # it is in memory by now
    function, traced = made()
    assert result(function, by=2.0)[2] == 3.0 and traced == []


def test_a_command_finds_what_another_made_for_it(folder, monkeypatch):
    monkeypatch.setattr(programs.atexit, "register", lambda *work: None)
    result(made()[0], by=2.0)
    with programs.noted_for("edit"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, partial(result, made()[0], by=3.0)).result()  # its threads too
        pool.submit(partial(result, made()[0], by=4.0)).result()  # and not those of others
    result(made()[0], by=5.0)
    name = programs._used[1]
    assert programs.read_ahead("edit") and list(programs._ahead) == [name]


def test_a_compiler_without_the_switch_of_its_emitters_compiles_all_the_same(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # a level that it names is for all
    monkeypatch.setattr(runtime, "_NEWER_EMITTERS", "xla_cpu_no_such_option")
    for level in (0, 1, 3):
        assert runtime.compiled(jax.jit(lambda x: 2.0 * x).lower(1.5), level=level)(1.5) == 3.0


@pytest.mark.parametrize("flags,named", [("", 3), ("--xla_backend_optimization_level=1", None)])
def test_a_level_of_the_users_own_is_for_all(monkeypatch, flags, named):
    monkeypatch.setenv("XLA_FLAGS", flags)
    given = []

    class Lowered:
        def compile(self, *, compiler_options=None):
            given.append(compiler_options)

    runtime.compiled(Lowered(), level=3)
    assert [options and options["xla_backend_optimization_level"] for options in given] == [named]


def test_a_program_can_be_read_before_the_classes_that_it_returns_are_imported(folder):
    assert result(made()[0], by=2.0)[1] == ("a", "b")
    code, *trees = pickle.loads(zlib.decompress(programs._read(code_of(folder))))
    assert trees[-1] == jax.tree.structure([0, 0]) and b"Pair" not in pickle.dumps(trees)
    (path,) = (path for path in folder.iterdir() if path.suffix != ".code")
    assert isinstance(pickle.loads(programs._read(path)[programs._CODE:]).unflatten([1, 2])[0], Pair)


def test_a_note_of_other_code_is_not_read(folder, monkeypatch):
    with programs.noted_for("edit"):
        result(made()[0], by=2.0)
    monkeypatch.setattr(programs, "_version", lambda: "another")
    monkeypatch.setattr(programs.atexit, "register", lambda *call: None)
    assert not programs.read_ahead("edit") and not programs._ahead
