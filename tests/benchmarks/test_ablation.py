"""The ablation: what its variants are, what its measures and claims say of rows whose answer is known."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from benchmarks.ablation import report
from benchmarks.ablation.__main__ import parser
from benchmarks.ablation.claims import CLAIMS, claims, verdict
from benchmarks.ablation.measures import ASKED, MODES, editability, error, likeness, still_db, unasked
from benchmarks.ablation.variants import NAMES, VARIANTS
from benchmarks.quality.embeddings import stages_of
from benchmarks.quality.measure import Edited
from benchmarks.quality.portraits import Portrait, Truth
from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
from pie_jax.face3d.morphable import FaceParams
from pie_jax.portrait import Embedding

NAMED = {variant.name: variant for variant in VARIANTS}
STAGES = (StageConfig(space="w", steps=30), StageConfig(space="w_plus", steps=15))


def edits_of(*, obtained=1.0, region_db=25.0, drift=0.2, cosine=0.7):
    """Figures of ASKED of which `obtained` of every request was read."""
    return {edit.name: {"asked": edit.asked, "obtained": obtained * edit.asked, "before": 0.0, "moved": 0.2,
                        "drift": {"texture": drift, "identity": drift}, "identity_cosine": cosine,
                        "identity_cosine_of_truth": 0.8, "region_db": region_db, "truth_db": 27.0,
                        "truth_unedited_db": 22.0, "mouth_db": 24.0, "mouth_unedited_db": 18.0} for edit in ASKED}


def rows_of(better: str, **of_better):
    """Rows of three portraits in which the variant `better` has other figures than all others."""
    rows = []
    for seed in range(3):
        for name in NAMES:
            edits = edits_of(**(of_better if name == better else {}))
            rows.append({"variant": name, "seed": seed, "psnr_db": 30.0 + seed, "ssim": 0.9, "sharpness": 1.0,
                         "identity_cosine": 0.9, "still_db": 40.0, "seconds": 3.0, "rig": edits, "corrected": edits})
    return rows


def test_variants_make_the_same_steps_and_keep_the_synthesis():
    energy = EnergyConfig(weight_edit=3.0)
    configs = {variant.name: variant.config(energy, STAGES) for variant in VARIANTS}
    assert len(set(map(str, configs.values()))) == len(VARIANTS) == 11
    for config in configs.values():
        assert [stage.steps for stage in config.stages] == [30, 15] and "synthesis" in config.energy.terms
        assert config.energy.weight_edit == 3.0
    assert configs["full"].energy == energy and configs["full"].stages == STAGES
    assert configs["no_edit"].energy.terms == ("synthesis", "identity", "invariance", "recognition")
    assert {stage.space for stage in configs["w"].stages} == {"w"}
    assert {stage.space for stage in configs["image2stylegan"].stages} == {"w_plus"}
    assert configs["image2stylegan"].energy.terms == ("synthesis",)
    assert {stage.lazy_interval for stage in configs["lazy"].stages} == {2}
    assert configs["half_detail"].energy.edit_detail == 0.5


def test_measures_of_known_edits():
    edits = edits_of(obtained=0.5, region_db=21.0, drift=0.3, cosine=0.6)
    assert (editability(edits), unasked(edits), likeness(edits)) == pytest.approx((21.0, 0.3, 0.6))
    whole = [edit for edit in ASKED if edit.asked]
    assert error(edits) == pytest.approx(0.5 * len(whole) / len(ASKED))
    edits["smile+0"] |= {"moved": 0.0, "region_db": 100.0}  # a true edit that moves nothing has no region
    assert editability(edits) == pytest.approx(21.0)


def test_claims_are_paired_and_say_how_sure_they_are():
    found = claims(rows_of("full", region_db=28.0))
    assert set(found) == set(CLAIMS)
    ahead = found["full_over_image2stylegan"]
    assert (ahead["difference"], ahead["agree"], ahead["portraits"], ahead["verdict"]) == (3.0, 3, 3, "holds")
    assert found["edit_term"]["verdict"] == "undecided"  # all alike
    assert claims(rows_of("full", drift=0.5))["invariance_term"]["verdict"] == "fails"
    assert claims(rows_of("no_edit", obtained=0.2))["edit_term"]["verdict"] == "holds"  # less missed is better
    assert claims([row for row in rows_of("full") if row["variant"] == "full"]) == {}
    assert verdict(np.array([1.0, -1.2, 0.9]))["verdict"] == "undecided"


def test_the_table_has_every_variant_and_claim():
    rows = rows_of("full", region_db=28.0)
    found = report.figures(rows)
    assert tuple(found) == NAMES and found["full"]["psnr_db"] == 31.0
    assert found["full"]["rig"]["truth_gain_db"] == pytest.approx({"yaw": 5, "light": 5, "smile": 5, "jaw": 5})
    assert found["full"]["rig"]["mouth_error_ratio"]["smile"] == pytest.approx(10 ** -0.3)
    assert found["full"]["corrected"]["identity_cosine_ratio"] == pytest.approx(0.7 / 0.8)
    text = report.table(found, claims(rows), title="toy")
    assert all(variant.says in text for variant in VARIANTS) and all(claim.says in text for claim in CLAIMS.values())
    assert len(report.gains_chart(found, "rig").axes[0].patches) == 4 * len(found)


def test_the_strip_shows_the_truth_first():
    image = np.zeros((8, 8, 3))
    truths = {edit.name: Truth(image=image, coverage=image[..., 0], landmarks=np.zeros((66, 2))) for edit in ASKED}
    edited = Edited(synthesis=image, images={edit.name: image for edit in ASKED}, seconds=0.1)
    one, two = (report.strip(Portrait(seed=1, image=image), truths, dict.fromkeys(NAMES[:n], edited)) for n in (1, 2))
    assert two.height > one.height and one.width == two.width


def test_a_code_is_compared_with_itself_rigged_by_its_own_parameters():
    pack = toy.toy_pack(jax.random.key(0))
    code = np.random.default_rng(0).normal(size=(toy.LAYERS, toy.W_DIM)).astype(np.float32)
    params = jax.tree.map(np.asarray, FaceParams.from_vector(toy.params_vector(jax.random.key(2))))
    embedding = Embedding(w_plus=code, params=params, portrait_params=None, landmarks=None, portrait_landmarks=None,
                          trace={}, config=EmbedConfig(), pack_name="toy", pack_hash="", report={})
    assert 0.0 < still_db(pack, embedding) < 60.0  # rigs of random weights move every code
    silent = {name: jax.tree.map(np.zeros_like, tree) for name, tree in pack.weights.items() if "rignet" in name}
    assert still_db(dataclasses.replace(pack, weights=pack.weights | silent), embedding) == pytest.approx(100.0)


def test_the_command_knows_its_presets_and_variants():
    arguments = parser().parse_args(["--steps", "30,15", "--variants", "full", "w"])
    assert [stage.steps for stage in stages_of(arguments)] == [30, 15] and arguments.variants == ["full", "w"]
    assert set(MODES) == {"rig", "corrected"}
