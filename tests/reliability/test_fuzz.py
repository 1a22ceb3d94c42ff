"""2 000 damaged files of every container: refused in one line or read right, within bounds, and nothing else happens.

The long form, 100 000 of each: `python -m benchmarks.reliability.fuzz`; its rows are in benchmarks/results/reliability.
"""

import os
import random

import pytest

from benchmarks.reliability import fuzz
from converters.readers import FORMATS


def test_every_container_has_files_to_damage():
    assert set(fuzz.containers()) == set(FORMATS)


@pytest.mark.parametrize("container", list(fuzz.containers()))
def test_damaged_files_are_refused_or_read_right(container):
    if container == "hdf5":
        pytest.importorskip("h5py")
    row = fuzz.fuzz(container, count=2000)
    assert row["wrong"] == 0, row["first_wrong"]
    assert row["mutations"] == 2000 == row["refused"] + row["read"] + row["stopped"]
    assert row["refused"] > 1000 and row["read"] > 0  # the damage is real, and not all of it fatal
    assert row["stopped"] <= (20 if container in fuzz.CONFINED else 0)
    assert row["slowest_s"] <= fuzz.SECONDS and row["peak_mb"] <= fuzz.MEMORY / 2**20


def test_a_mutation_is_always_the_same_and_nearly_always_a_change():
    data = bytes(range(256)) * 4
    found = [fuzz.mutate(random.Random(k), data) for k in range(300)]
    assert found == [fuzz.mutate(random.Random(k), data) for k in range(300)]
    assert len(set(found)) > 280 and sum(changed == data for changed in found) < 10


@pytest.mark.parametrize("deed,said,count", [
    ("open(path.parent / 'new', 'w').close()", "for writing", 6), ("__import__('tabnanny')", "import", 6),
    ("exec('1')", "compile", 6), ("__import__('os').system('true')", "os.system", 6),
    ("__import__('socket').socket().close()", "socket", 6), ("bytearray(2 * 2**30)", "MemoryError", 6),
    ("undefined", "NameError", 6), ("raise PackError('two\\nlines')", "more than a line", 6),
    ("while True: pass", "the process ended by", 1)])
def test_the_watch_sees_what_a_reader_must_not_do(monkeypatch, tmp_path, deed, said, count):
    """A reader that does it with damaged files, in the place of ours: the row says so."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "import converters.readers.open as opened\n"
        "from pie_jax.errors import PackError\n"
        "honest = opened.read\n"
        "def read(path):\n"
        "    try:\n"
        "        return honest(path)\n"
        "    except PackError:\n"
        "        if path.is_file():\n"
        f"            {deed}\n"
        "        raise\n"
        "opened.read = read\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(fuzz.ROOT)]))
    row = fuzz.fuzz("npy", count=count, seconds=1.0)
    assert row["wrong"] > 0 and said in " ".join(row["first_wrong"]), row
