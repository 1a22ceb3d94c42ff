"""A small world for the short forms: a pack, photos, a file to convert, an embedding to edit."""

import pytest

from benchmarks.reliability import faults
from benchmarks.reliability.world import EMBED_ONE, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Made once for a module, and copied for each trial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)  # the settings of the tests stay
        made = make_world(tmp_path_factory.mktemp("world") / "world")
        code, said = faults.run(EMBED_ONE, made.folder)
        assert code == 0, said
        yield made
