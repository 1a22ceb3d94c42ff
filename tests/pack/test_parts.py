"""The registry of parts: a new part is one entry and one network; what it tells users to run does run."""

import ast
import dataclasses
import importlib
import pathlib
import re
import shlex
import sys
import types

import jax
import numpy as np
import pytest
from flax import linen as nn

from pie_jax.config import TERMS
from pie_jax.errors import PackError
from pie_jax.pack import PARTS, Part, check_weights, load_pack, read_manifest, update_part
from pie_jax.pack.parts import needs_of
from pie_jax.packs.__main__ import main as packs

ROOT = pathlib.Path(__file__).parents[2]
MODULE = r"python -m ((?:pie_jax|converters)(?:\.[a-z0-9_]+)*[a-z0-9_])(?![.\w])"
# Results are stored with this hash: the pack that ships may not change unseen.
DEMO_HASH = "21e0917c891510afeee381a85b4cc040d60534a09f0e4cff6b8aabb7302a8773"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HatConfig:
    """How many numbers describe a hat."""

    features: int = 3


class HatNet(nn.Module):
    """Image [B, 4, 4, 3] -> [B, features]."""

    config: HatConfig

    @nn.compact
    def __call__(self, image):
        return nn.Dense(self.config.features, name="read")(image.reshape(image.shape[0], -1))


def test_a_new_part_is_one_entry_and_one_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PARTS, "hat", Part(
        name="hat", config=HatConfig, network="hat_network:HatNet", inputs=lambda config: ((1, 4, 4, 3),),
        use="hats", disables="hats", published="nobody", licence="MIT",
        command="python -m pie_jax.training.dfr --pack DIR"))
    monkeypatch.setitem(sys.modules, "hat_network", types.SimpleNamespace(HatNet=HatNet))
    config = HatConfig(features=5)
    weights = HatNet(config).init(jax.random.key(0), np.zeros((1, 4, 4, 3)))["params"]
    update_part(tmp_path / "p", "hat", weights, config=config, storage="float32")
    pack = load_pack(tmp_path / "p")
    pack.require("hat")
    assert pack.configs.of("hat") == config and read_manifest(tmp_path / "p")["configs"]["hat"] == {"features": 5}
    np.testing.assert_array_equal(pack.weights["hat"]["read"]["kernel"], weights["read"]["kernel"])
    assert packs(["status", str(tmp_path / "p")]) == 0 and "needed for\nhat " in capsys.readouterr().out
    with pytest.raises(PackError, match="lacks array 'read/bias'"):
        check_weights("hat", {"read": {"kernel": weights["read"]["kernel"]}}, pack.configs)


def test_every_term_has_its_parts():
    assert {term: needs_of(term) for term in TERMS} == {
        "synthesis": ["generator"], "identity": ["regressor"], "recognition": ["recognition"],
        "edit": ["regressor", "landmarks", "morphable", "pool"],
        "invariance": ["regressor", "landmarks", "morphable", "pool"]}


def test_the_pack_that_ships_is_as_it_was():
    pack = load_pack("demo")  # compares the arrays of every part with the manifest's hash
    assert pack.hash == DEMO_HASH and set(pack.manifest["parts"]) == set(PARTS) - {"face_descriptor"}


@pytest.mark.parametrize("name", PARTS)
def test_what_is_missing_is_told_with_the_command_that_makes_it(name, tmp_path):
    update_part(tmp_path / "p", "generator", {"w_mean": np.zeros(3)}, check=False, storage="float32")
    pack = load_pack(tmp_path / "p", check=False, parts=())
    with pytest.raises(PackError, match=re.escape(PARTS[name].command)):
        pack.require(name)


def hints():
    """Every command that a string of the packages tells a user to run."""
    found = {part.command for part in PARTS.values()}
    for path in [*(ROOT / "pie_jax").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(MODULE, node.value))
    return sorted({command.removeprefix("python -m ").split()[0] for command in found})


@pytest.mark.parametrize("module", [name for name in hints() if not name.endswith("rendezvous")])
def test_every_hint_names_a_command_that_runs(module, capsys):
    command = importlib.import_module(module)
    if not hasattr(command, "main"):
        command = importlib.import_module(f"{module}.__main__")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(command.main(["--help"]))
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("usage:")


def test_the_flags_of_the_registry_are_those_of_the_commands(capsys):
    for part in PARTS.values():
        words = shlex.split(part.command)[2:]
        with pytest.raises(SystemExit):
            raise SystemExit(importlib.import_module(words[0]).main(["--help"]))
        out = capsys.readouterr().out
        assert all(word in out for word in words if word.startswith("--")), part.command
