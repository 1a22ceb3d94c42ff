"""One embedding for all controls beside one for each: what is asked for, and what the summary says of known rows."""

import pytest

from benchmarks import joint
from benchmarks.quality.edits import EDITS
from pie_jax.config import EnergyConfig

NAMED = {edit.name: edit for edit in EDITS}


def test_configs_differ_in_their_controls_alone():
    configs = joint.configs_of(EnergyConfig(weight_l2=3.0), ())
    assert list(configs) == ["joint", "pose", "expression", "illumination"]
    assert [len(config.energy.controls) for config in configs.values()] == [3, 1, 1, 1]
    assert {config.energy.weight_l2 for config in configs.values()} == {3.0}


def test_a_chain_is_one_request():
    request = joint.request_of([NAMED[name] for name in ("yaw+15", "smile+2", "jaw_open+2", "azimuth+45")])
    assert request == {"yaw": 15.0, "expression": {"smile": 2.0, "jaw_open": 2.0}, "light": (45.0, 20.0, 0.65)}
    assert all(part in NAMED for chain in joint.CHAINS for part in chain)
    assert all(part in NAMED for part in joint.SINGLE)


def test_the_summary_of_known_rows():
    names = ("joint", "pose", "expression", "illumination")

    def row(seed):
        edits = {}
        for parts in [(name,) for name in joint.SINGLE] + list(joint.CHAINS):
            seen = names if len(parts) > 1 else ("joint", NAMED[parts[0]].control)
            found = {name: {"region_db": 24.0 if name == "joint" else 24.5, "truth_db": 30.0} for name in seen}
            if parts[0].startswith("yaw"):
                found = {name: one | {"yaw_off_deg": 0.5} for name, one in found.items()}
            edits[" ".join(parts)] = found | {"unedited": {"region_db": 20.0 + seed, "truth_db": 25.0}}
        return {"seed": seed, "psnr_db": dict.fromkeys(names, 30.0), "edits": edits}

    figures = joint.summary([row(0), row(1), row(2)])
    assert figures["gain_db"]["smile+2"] == {"joint": 3.0, "expression": 3.5}
    assert figures["gain_db"]["yaw+15 smile+2 azimuth+45"]["joint"] == 3.0
    assert figures["joint_behind_own_db"]["median"] == pytest.approx(0.5)
    assert figures["yaw_off_deg"]["yaw+15 smile+2"]["pose"] == 0.5
    text = joint.table(figures, title="T")
    assert text.startswith("T\n") and "+0.50 dB nearer" in text and "yaw+15 smile+2: yaw off" in text
