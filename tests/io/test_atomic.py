"""Files are replaced whole or not at all, under any legal name."""

import pytest

from pie_jax.errors import ResourceError
from pie_jax.io import replace_file, replacing


@pytest.mark.parametrize("name", ["a.png", "x" * 255, "\U0001f600" * 63, "\u5199" * 84 + ".gz"])
def test_every_legal_name_can_be_written(tmp_path, name):
    replace_file(tmp_path / name, b"old")
    replace_file(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path):
    replace_file(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a") as file:
        file.write(b"half")
        raise RuntimeError
    with pytest.raises(ResourceError, match="No space left"), replacing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
