"""The lowest and the newest versions that `pyproject.toml` allows, on each Python at hand, in a fresh environment.

    python -m benchmarks.reliability.versions --out benchmarks/results/reliability/versions.jsonl

Each environment gets the package with its extras, and passes the same short check: a pack verified, the demo photo
embedded and edited, and the tests of `CHECKS`.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence

from benchmarks.reliability.report import parser_of, say
from pie_jax.cli import command

ROOT = pathlib.Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("convert", "heif", "view", "video", "bench", "test")
PINS = ("lowest", "newest")
CHECKS = ("tests/io", "tests/pack", "tests/cli", "tests/edit/test_film.py", "tests/converters/test_readers.py",
          "tests/view/test_server.py")
_SHOWN = ("jax", "flax", "optax", "numpy", "scipy", "pillow", "orbax-checkpoint")


def requirements(pins: str) -> list[str]:
    """What is installed: the dependencies and extras as they are declared, or with `>=` read as `==`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *(line for name in EXTRAS for line in project["optional-dependencies"][name])]
    external = [line for line in declared if not line.startswith(project["name"])]
    return [re.sub(">=", "==", line) for line in external] if pins == "lowest" else external


def commands(python: str, out: pathlib.Path) -> list[list[str]]:
    """The short check, as commands for the environment's interpreter."""
    return [[python, "-m", "pie_jax.packs", "verify", "demo"],
            [python, "-m", "pie_jax.embed", "--demo", "--steps", "4,2", "--terms", "synthesis", "-o", str(out)],
            [python, "-m", "pie_jax.edit", str(out / "sample"), "--yaw", "12", "-o", str(out / "edit.png")],
            [python, "-m", "pytest", "-n0", "-x", "-p", "no:cacheprovider", *CHECKS]]


def check(interpreter: str, pins: str, folder: pathlib.Path) -> dict:
    """One environment made and checked: a row that says what was installed and how it ended."""
    python, began = str(folder / "venv" / "bin" / "python"), time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    row: dict = {"python": _version(interpreter), "pins": pins}

    def call(words: list[str]) -> subprocess.CompletedProcess:
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)

    for words in ([interpreter, "-m", "venv", str(folder / "venv")],
                  [python, "-m", "pip", "install", "--quiet", *requirements(pins)]):
        done = call(words)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            return row | {"outcome": "not installed", "cause": (lines or ["?"])[-1][:200]}
    listed = json.loads(call([python, "-m", "pip", "list", "--format", "json"]).stdout)
    versions = {each["name"].lower().replace("_", "-"): each["version"] for each in listed}
    row |= {"versions": {name: versions[name] for name in _SHOWN}}
    for words in commands(python, folder / "out"):
        done = call(words)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            sys.stderr.write("\n".join(said[-40:]) + "\n")
            return row | {"outcome": "failed", "cause": f"{words[2]}: exit code {done.returncode}: {said[-1][:200]}"}
        if "pytest" in words:
            found = re.search(r"(\d+) passed", done.stdout)
            row["tests"] = int(found[1]) if found else 0
    return row | {"outcome": "passed", "seconds": round(time.monotonic() - began)}


def _version(interpreter: str) -> str:
    words = [interpreter, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    """Make and check every environment; exit code 1 where one did not pass."""
    parser = parser_of("versions", description=__doc__)
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter (default: those on the PATH)")
    parser.add_argument("--pins", choices=PINS, action="append", help="only these")
    arguments = parser.parse_args(argv)
    at_hand = [shutil.which(f"python{version}") for version in PYTHONS]
    failed = False
    for interpreter in arguments.python or [path for path in at_hand if path]:
        for pins in arguments.pins or PINS:
            with tempfile.TemporaryDirectory(prefix="pie_jax_versions_") as folder:
                row = check(interpreter, pins, pathlib.Path(folder))
            say(row, arguments.out)
            failed |= row["outcome"] != "passed"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
