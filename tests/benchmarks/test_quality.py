"""The measures of benchmarks.quality on pictures whose answer is known."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import toy

from benchmarks.quality import charts, judge, measure
from benchmarks.quality.__main__ import main, parser
from benchmarks.quality.edits import EDITS, Edit, obtained
from benchmarks.quality.embeddings import embedded, label_of, stages_of
from benchmarks.quality.portraits import Portrait, Truth, photograph
from benchmarks.quality.rows import add, key_of, rounded, rows
from benchmarks.quality.summary import accuracy, summary
from benchmarks.quality.table import table
from pie_jax.config import PRESETS, EmbedConfig, EnergyConfig, StageConfig
from pie_jax.energy import part_weights
from pie_jax.face3d.morphable import PARAMETERS, VECTOR_SLICES
from pie_jax.face3d.render import light
from pie_jax.pack import Manifest
from pie_jax.portrait.calibration import part_hashes
from pie_jax.training.recognition import verification


def rows_of(obtain, *, seeds=3):
    """Rows as `measure` writes them, with `obtain(edit)` read from every edit and edits 6 dB nearer to the truth."""
    still = {"rotation": 0.1, "identity": 0.2, "texture": 0.3, "expression": 0.4, "illumination": 0.5}
    edits = {edit.name: {"asked": edit.asked, "obtained": obtain(edit), "before": -5.0, "drift": still,
                         "drift_of_truth": still, "identity_cosine": 0.8, "identity_cosine_of_truth": 0.9,
                         "obtained_of_truth": edit.asked, "landmark_px128": 1.0, "landmark_unedited_px128": 2.0,
                         "moved": 0.1, **{f"{region}_db": 26.0 for region in ("truth", "face", "region", "mouth")},
                         **{f"{region}_unedited_db": 20.0 for region in ("truth", "face", "region", "mouth")}}
             for edit in EDITS}
    return [{"seed": seed, "psnr_db": 30.0 + seed, "ssim": 0.9, "seconds": 4.0, "edits": dict(edits)}
            for seed in range(seeds)]


def test_edits_are_named_by_what_they_ask_and_know_their_rig():
    edit = Edit(quantity="yaw", asked=-15.0)
    assert (edit.name, edit.control, edit.request) == ("yaw-15", "pose", {"yaw": -15.0})
    assert Edit(quantity="smile", asked=2.0).request == {"expression": {"smile": 2.0}}
    assert Edit(quantity="azimuth", asked=45.0).request["light"][0] == 45.0
    assert len({edit.name for edit in EDITS}) == len(EDITS)


def test_what_was_obtained_is_read_in_the_unit_that_was_asked():
    vector = np.zeros(PARAMETERS, np.float32)
    vector[VECTOR_SLICES["rotation"]] = np.radians([3.0, -15.0, 0.0])
    vector[VECTOR_SLICES["illumination"]] = np.asarray(light(30.0, 10.0, 0.6, ambient=0.4))
    vector[VECTOR_SLICES["expression"].start + 1] = 1.5
    names = ("jaw_open", "smile")
    found = [obtained(vector, quantity, names) for quantity in ("pitch", "yaw", "azimuth", "elevation", "smile")]
    np.testing.assert_allclose(found, [3.0, -15.0, 30.0, 10.0, 1.5], rtol=1e-4)


def test_a_perfect_and_a_weak_answer_have_their_slopes():
    assert accuracy(rows_of(lambda edit: edit.asked), "yaw") == pytest.approx({"slope": 1, "correlation": 1, "mae": 0})
    weak = accuracy(rows_of(lambda edit: 0.5 * edit.asked + 1), "yaw")
    assert (weak["slope"], weak["correlation"]) == pytest.approx((0.5, 1.0))


def test_the_summary_counts_gains_against_the_unedited():
    figures = summary(rows_of(lambda edit: edit.asked))
    assert (figures["count"], figures["psnr_median"], figures["seconds_per_portrait"]) == (3, 31.0, 4.0)
    assert figures["yaw_in_order"] == 3 and figures["truth_gain_db"]["yaw"] == pytest.approx(6.0)
    assert figures["mouth_error_ratio"]["smile"] == pytest.approx(10 ** -0.3)
    assert figures["mouth_closer"]["jaw_open"] == 3
    assert figures["identity_cosine_ratio"] == pytest.approx(0.8 / 0.9)
    assert json.loads(json.dumps(rounded(figures)))["drift"]["pose"]["texture"] == 0.3


def test_the_table_says_every_edit_and_a_dash_where_nothing_is_known():
    figures = summary(rows_of(lambda edit: 0.5 * edit.asked))
    lines = table(figures, title="toy").splitlines()
    yaw = next(line for line in lines if line.startswith("  yaw"))
    assert yaw.split() == ["yaw", "-20..20", "0.50", "1.00", "7.00", "deg", "26.0", "+6.0", "+6.0", "+6.0", "1.00",
                           "2.00", "-"]
    assert max(len(line) for line in lines) <= 120 and "GENERATOR" not in "".join(lines)
    factors = {"yaw": {"cosine": 0.9, "gain": 0.8}}
    assert "GENERATOR" in table(figures | {"response": factors, "generator_psnr_db": 30.0}, title="toy")


def test_without_a_truth_the_summary_and_the_table_say_what_is_left():
    found = rows_of(lambda edit: edit.asked)
    for row in found:
        row["edits"] = {name: {key: edit[key] for key in ("asked", "obtained", "before", "drift", "identity_cosine")}
                        for name, edit in row["edits"].items()}
    figures = summary(found)
    assert "truth_gain_db" not in figures and figures["identity_cosine_of_edits"] == pytest.approx(0.8)
    assert "gain" not in table(figures, title="photos")


def test_charts_are_written(tmp_path):
    files = charts.draw(rows_of(lambda edit: 0.5 * edit.asked), tmp_path)
    assert [file.name for file in files] == ["accuracy.png", "psnr.png", "gains.png"]
    assert all(file.stat().st_size > 5000 for file in files)


def test_rows_of_another_preset_are_left_alone(tmp_path):
    add(tmp_path / "rows.jsonl", {"pack": "a", "preset": "paper", "x": 1 / 3})
    add(tmp_path / "rows.jsonl", {"pack": "a", "preset": "fast", "x": 2.0})
    assert rows(tmp_path / "rows.jsonl", pack="a", preset="paper") == [{"pack": "a", "preset": "paper", "x": 0.3333}]
    assert rows(tmp_path / "absent.jsonl") == []


def test_a_row_says_whose_networks_and_whose_calibration_it_is_of():
    pack = toy.toy_pack(jax.random.key(0), parts=("regressor",))
    key = key_of(pack, "fast")
    assert (key["pack"], key["preset"], key["calibration"]) == (pack.hash[:12], "fast", "none")
    manifest = Manifest(pack.manifest, calibration={"parts": part_hashes(pack), "curves": {}})
    assert key_of(dataclasses.replace(pack, manifest=manifest), "fast")["calibration"] != "none"


def test_presets_are_those_of_embed_and_name_their_rows():
    for preset in PRESETS:
        arguments = parser().parse_args(["--preset", preset])
        assert stages_of(arguments) == PRESETS[preset] and label_of(arguments) == preset
    arguments = parser().parse_args(["--preset", "fast", "--steps", "7,5"])
    assert [stage.steps for stage in stages_of(arguments)] == [7, 5] and label_of(arguments, "pose") == "fast_7-5_pose"
    with pytest.raises(SystemExit, match="2 whole numbers"):
        stages_of(parser().parse_args(["--preset", "fast", "--steps", "7"]))


def test_drift_leaves_out_what_was_asked():
    names = ("jaw_open", "smile", *(f"expression_{i}" for i in range(62)))
    change = np.zeros(PARAMETERS)
    change[VECTOR_SLICES["expression"]] = 1.0
    change[VECTOR_SLICES["rotation"].start + 1] = 5.0  # yaw
    pose = measure.drift(change, Edit(quantity="yaw", asked=15.0), names)
    assert pose["rotation"] == 0.0 and pose["expression"] == 1.0
    smile = measure.drift(change, Edit(quantity="smile", asked=2.0), names)
    assert smile["rotation"] == pytest.approx(5 / np.sqrt(3)) and smile["expression"] == 1.0
    assert "illumination" not in measure.drift(change, Edit(quantity="azimuth", asked=45.0), names)


TOY_EDITS = (Edit(quantity="yaw", asked=15.0), Edit(quantity="jaw_open", asked=2.0))


def test_a_portrait_is_embedded_once_and_measured_with_and_without_a_truth(tmp_path):
    pack = toy.toy_pack(jax.random.key(0), energy=EnergyConfig(terms=("synthesis",), render_resolution=16))
    image = np.asarray(toy.portraits(jax.random.key(1), 1, pack=pack)[0])
    stages = (StageConfig(space="w", steps=2, chunk=2), StageConfig(space="w_plus", steps=1, chunk=2))
    config = EmbedConfig(energy=pack.configs.energy, stages=stages)
    photo = Portrait(seed=7, image=image)
    embedding = embedded(pack, [photo], config, tmp_path)[0]
    again = embedded(pack, [photo], config, tmp_path)[0]
    np.testing.assert_array_equal(embedding.w_plus, again.w_plus)
    assert again.report["seconds_per_portrait"] == embedding.report["seconds_per_portrait"]

    edited = measure.edit_all(pack, embedding, TOY_EDITS)
    row = measure.measure(pack, embedding, photo, edited, {}, edits=TOY_EDITS)
    assert set(row["edits"]) == {"yaw+15", "jaw_open+2"} and "truth_db" not in row["edits"]["yaw+15"]
    assert "sharpness" not in row
    weights, layers = part_weights(pack.configs.energy), len(pack.configs.perceptual.layers)
    due = (weights["l2"] * np.square(edited.synthesis - image).mean()  # E_synthesis, the same at every draw
           + weights["perceptual"] * layers * row["perceptual"])
    assert row["energy"] == pytest.approx(due, rel=1e-3)

    # a truth that is the edit itself leaves no error
    points = np.full((66, 2), 16.0)
    known = Portrait(seed=7, image=image, coverage=np.ones(image.shape[:2]), landmarks=points)
    truths = {name: Truth(image=picture, coverage=np.ones(image.shape[:2]), landmarks=points)
              for name, picture in edited.images.items()}
    row = measure.measure(pack, embedding, known, edited, truths, edits=TOY_EDITS)["edits"]["jaw_open+2"]
    assert row["truth_db"] == row["mouth_db"] == pytest.approx(100.0) and row["obtained"] == pytest.approx(
        row["obtained_of_truth"], abs=1e-5)
    assert row["identity_cosine"] == pytest.approx(row["identity_cosine_of_truth"], abs=1e-5)


def test_the_judge_was_good_at_people_it_had_never_seen_and_its_file_is_small():
    weights, facts = judge.load()
    assert judge.FILE.stat().st_size < 1_000_000
    assert facts["held_out"]["auc"] > 0.9 and facts["held_out"]["rank_1"] > 0.15
    codes = judge.describe(weights, np.full((2, 40, 40, 3), 0.5, np.float32), toy.CONFIGS.camera)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), 1.0, rtol=1e-5)


def test_the_judge_comes_back_from_its_file(tmp_path):
    weights = {"a": {"kernel": np.full((2, 2), 0.1, np.float32), "var": np.full(2, 1e-6, np.float32)}}
    judge.save(tmp_path / "judge.npz", weights, {"seed": 3})
    back, facts = judge.load(tmp_path / "judge.npz")
    np.testing.assert_allclose(back["a"]["kernel"], 0.1, rtol=1e-3)
    np.testing.assert_array_equal(back["a"]["var"], weights["a"]["var"])
    assert facts == {"seed": 3}


def test_views_that_do_not_find_their_person_cost_more():
    person = np.repeat(np.arange(4), 2)
    right = np.eye(4, dtype=np.float32)[person]
    wrong = np.roll(right, 1, axis=0)
    assert float(judge.found(right, person)) < 0.01 < 1.0 < float(judge.found(wrong, person))
    assert verification(right, person)["rank_1"] == 1.0


def test_the_judge_learns_on_a_toy_batch():
    rng = np.random.default_rng(0)
    step = jax.jit(judge.make_step(np.full(160, 1 / 160, np.float32), peak=2e-3))
    weights = judge.Judge().init(jax.random.key(0), np.zeros((1, 48, 48, 3), np.float32))["params"]
    head = {"kernel": np.zeros((64, 160), np.float32), "bias": np.zeros(160, np.float32)}
    state = judge.loop.new_state(jax.random.key(1), {"judge": weights, "head": head}, judge.OPTIMISER)
    batch = {"images": rng.integers(0, 256, (4, 48, 48, 3)).astype(np.uint8), "person": np.array([0, 0, 1, 1]),
             "params": np.zeros((4, PARAMETERS), np.float32)}
    state, terms = step(state, batch)
    assert set(terms) == {"loss", "missed", "coefficients"} and np.isfinite(float(terms["loss"]))
    assert not np.allclose(state.weights["judge"]["bn1"]["mean"], 0.0)


def test_an_edit_that_the_person_has_already_gains_nothing_and_is_not_counted():
    found = rows_of(lambda edit: edit.asked)
    found[0]["edits"]["pucker+2"] = dict(found[0]["edits"]["pucker+2"], moved=0.0, truth_db=10.0)
    assert summary(found)["truth_gain_db"]["pucker"] == pytest.approx(6.0)
    nobody = [dict(row, edits=row["edits"] | {"pucker+2": dict(row["edits"]["pucker+2"], moved=0.0)}) for row in found]
    figures = rounded(summary(nobody))
    assert figures["truth_gain_db"]["pucker"] is None
    assert "  pucker" in table(figures, title="toy")


def test_the_farther_of_two_requests_is_a_portraits_own_edit():
    rows = rows_of(lambda edit: edit.asked)
    for row, before in zip(rows, (0.1, 1.9, 0.2)):
        for asked in (0, 1, 2):
            edit = row["edits"][f"smile+{asked}"] = dict(row["edits"][f"smile+{asked}"], before=before)
            edit["mouth_db"] = 26.0 if abs(before - asked) > 1 else 14.0  # the small edits make it worse
    figures = summary(rows)
    assert figures["mouth_farther"]["smile"] == pytest.approx({"closer": 3, "error_ratio": 10 ** -0.3})
    assert figures["mouth_closer"]["smile"] == 2


def test_errors_are_taken_over_their_region():
    truth = np.full((8, 8, 3), 0.5, np.float32)
    image, mask = truth.copy(), np.zeros((8, 8))
    image[2, 2], mask[2, 2] = 0.6, 1.0
    assert measure.decibels(image, truth, mask) == pytest.approx(20.0, abs=1e-3)
    assert measure.decibels(image, truth) == pytest.approx(20.0 + 10 * np.log10(64), abs=1e-3)


def test_sharpness_is_the_gradient_energy_of_the_face():
    rng = np.random.default_rng(0)
    image, mask = rng.random((16, 16, 3)), np.ones((16, 16))
    assert measure.sharpness(image, image, mask) == pytest.approx(1.0)
    assert measure.sharpness(0.5 * image, image, mask) == pytest.approx(0.25)
    mask[:8] = 0
    blurred = image.copy()
    blurred[:8] = 0.5
    assert measure.sharpness(blurred, image, mask) == pytest.approx(1.0, rel=0.2)


def test_the_mouth_is_the_box_round_both_mouths():
    points = np.zeros((66, 2))
    points[48:] = [10, 20]
    moved = points.copy()
    moved[48:, 1] = 24
    mask = measure.mouth_mask((50, 50), points, moved)
    assert mask[20, 10] == mask[24, 10] == mask[22, 9] == 1 and mask[30, 10] == mask[20, 15] == 0


def test_seeds_of_training_are_refused():
    with pytest.raises(SystemExit, match="belong to training"):
        main(["--seed", "999999", "--count", "2"])
    with pytest.raises(ValueError, match="belong to training"):
        photograph(None, 1_000_000, resolution=64)


def test_presets_side_by_side(tmp_path, capsys):
    """Paired over the people that both have; rows of another pack are not mixed in."""
    from benchmarks.quality import presets
    from benchmarks.quality.summary import FAR

    def row(seed, preset, psnr, pack="a"):
        edits = {edit.name: {"truth_db": psnr - 2.0, "region_db": psnr - 5.0} for far in FAR.values() for edit in far}
        return {"pack": pack, "calibration": "c", "of": "studio", "preset": preset, "seed": seed, "psnr_db": psnr,
                "ssim": 0.9, "sharpness": 0.8, "perceptual": 0.05, "identity_cosine": 0.9, "seconds": 5.0,
                "edits": edits}

    lines = [row(1, "fast", 20.0, pack="old"), row(1, "fast", 30.0), row(2, "fast", 33.0), row(3, "fast", 40.0),
             row(1, "paper", 31.0), row(2, "paper", 32.0)]
    (tmp_path / "portraits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert presets.main([str(tmp_path), "--presets", "fast", "paper"]) == 0
    out = capsys.readouterr().out
    last = json.loads(out.splitlines()[-1])
    assert last["people"] == [1, 2] and last["pack"] == "a"
    assert last["PSNR"]["fast"] == {"median": 31.5, "lead": 0.0, "error": 1.0}
    assert last["yaw where it moves"]["paper"]["median"] == 26.5
    assert "final energy" not in last  # rows from before it was measured have none
    assert "+0 +- 1" in out and (tmp_path / "presets.txt").read_text() == "".join(out.splitlines(True)[:-1])
    with pytest.raises(SystemExit, match="0 people in common"):
        presets.main([str(tmp_path), "--presets", "quick", "paper"])
