"""Terminals, homes and devices that are not as one expects them: work goes on, or one line says what to set."""

import os
import subprocess
import sys

import pytest

CODE = "import sys; from pie_jax.cli import command; sys.exit(command.guarded(lambda: ({}, 0)[1], debug=False))"


def run(code, **environment):
    settings = {key: value for key, value in os.environ.items() if key not in environment} | {
        key: value for key, value in environment.items() if value is not None}
    return subprocess.run([sys.executable, "-c", CODE.format(code)], capture_output=True, env=settings, timeout=120)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_no_name_stops_work_on_any_terminal(encoding):
    done = run("print('\\u5199\\u771f.png'), print('\\u5199', file=sys.stderr)", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and (b"\\u5199\\u771f.png" in done.stdout or "\u5199" in done.stdout.decode())


def test_a_device_that_is_not_there_is_exit_code_7():
    for platform in ("cuda", "nonsense", "tpu"):
        done = run("command.configure('auto')", JAX_PLATFORMS=platform)
        assert done.returncode == 7, (platform, done.stderr)
        assert done.stderr.decode().splitlines()[-1].startswith("error: device default: not available here")


def test_no_memory_is_exit_code_7(capsys):
    from pie_jax.cli import command

    def fails(error):
        raise error

    for error, said in ((MemoryError(), "not enough memory"), (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2 GB"), "not enough device memory")):
        assert command.guarded(lambda error=error: fails(error), debug=False) == 7
        err = capsys.readouterr().err
        assert said in err and "smaller --batch" in err and err.count("\n") == 1
        assert command.guarded(lambda error=error: fails(error), debug=False, smaller="--micro-batch") == 7
        assert "use a smaller --micro-batch" in capsys.readouterr().err
    assert command.guarded(lambda: fails(PermissionError(13, "Permission denied", "log.jsonl")), debug=False) == 7
    assert "log.jsonl: Permission denied; check that it is there" in capsys.readouterr().err


def test_without_a_home_it_says_what_to_set(tmp_path):
    hidden = "import pathlib; pathlib.Path.home = classmethod(lambda c: (_ for _ in ()).throw(RuntimeError('no home')))"
    done = run(f"exec({hidden!r}), command.configure('cpu')", JAX_COMPILATION_CACHE_DIR=None, XDG_CACHE_HOME=None,
               JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr.decode().count("set JAX_COMPILATION_CACHE_DIR") == 1
    (tmp_path / "file").write_text("")
    done = run("command.configure('cpu')", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "file"), JAX_PLATFORMS="cpu")
    assert done.returncode == 0 and b"cannot be written; set JAX_COMPILATION_CACHE_DIR" in done.stderr


def test_a_tilde_behind_an_equals_sign_is_the_home(monkeypatch, tmp_path):
    from pie_jax.cli import command

    monkeypatch.setenv("HOME", str(tmp_path))
    parser = command.Parser(module="pie_jax.embed")
    parser.add_argument("--pack")
    parser.add_argument("photos", nargs="*")
    arguments = parser.parse_args(["--pack=~/p", "~/a.png", "b~.png"])
    assert arguments.pack == str(tmp_path / "p") and arguments.photos == [str(tmp_path / "a.png"), "b~.png"]
