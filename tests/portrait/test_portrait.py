"""The verbs on toy packs: what an embedding holds, independence of neighbours, resuming, edits, files."""

import dataclasses
import io
import json
import pickle
import zipfile

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax import Embedding, edit_portrait, embed_portraits
from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
from pie_jax.errors import InputError, PackError, UsageError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import light_direction
from pie_jax.pack import Manifest
from pie_jax.portrait import Checkpoint, edit_latent
from pie_jax.portrait.inversion import portrait_seed

PARTS = ("generator", "regressor", "landmarks", "recognition", "morphable", "rignet_pose", "rignet_expression",
         "rignet_illumination")
# The energy's other terms have their own tests; the verbs do not look at them, and this one compiles in seconds.
ENERGY = EnergyConfig(terms=("synthesis",), render_resolution=16)
CONFIG = EmbedConfig(energy=ENERGY, stages=(StageConfig(space="w", steps=12, chunk=4),
                                            StageConfig(space="w_plus", steps=8, chunk=4)))
SIDE, LAYERS = toy.SMALLEST.generator.resolution, toy.SMALLEST.generator.num_layers


@pytest.fixture(scope="module")
def pack():
    return dataclasses.replace(toy.toy_pack(jax.random.key(0), parts=PARTS, energy=ENERGY, configs=toy.SMALLEST),
                               manifest=Manifest(name="toy", parts={"generator": {"sha256": "0" * 64}}))


@pytest.fixture(scope="module")
def portraits(pack):
    return np.asarray(toy.portraits(jax.random.key(1), 3, pack=pack))


@pytest.fixture(scope="module")
def embeddings(pack, portraits):
    return embed_portraits(pack, portraits, config=CONFIG, batch=2)


def test_an_embedding_holds_its_evidence(pack, portraits, embeddings):
    assert len(embeddings) == 3
    for embedding in embeddings:
        assert embedding.w_plus.shape == (LAYERS, toy.W_DIM) and embedding.w_plus.dtype == np.float32
        assert embedding.report["outcome"] == "finished" and embedding.report["incidents"] == []
        assert set(embedding.report["metrics"]) == {"psnr_db", "ssim", "landmark_error_px224", "identity_cosine"}
        assert set(embedding.trace) == {"energy", "synthesis"}
        assert embedding.trace["energy"].shape == (20,) and np.isfinite(embedding.trace["energy"]).all()
        assert embedding.trace["energy"][-1] < embedding.trace["energy"][0]
        assert embedding.params.rotation.shape == (3,) and embedding.portrait_landmarks.shape == (66, 2)
        assert len(embedding.params.expression) == 64
        assert embedding.report["left_out"] == [["perceptual", "the pack has no perceptual network"]]
    error = np.mean((edit_portrait(pack, embeddings[0]) - portraits[0]) ** 2)
    assert abs(-10 * np.log10(error) - embeddings[0].report["metrics"]["psnr_db"]) < 1e-2


def test_the_first_stage_ties_the_rows(pack, portraits):
    config = dataclasses.replace(CONFIG, stages=(CONFIG.stages[0],))
    w_plus = embed_portraits(pack, portraits[:1], config=config, batch=2)[0].w_plus
    np.testing.assert_array_equal(w_plus, np.repeat(w_plus[:1], LAYERS, axis=0))


def test_no_steps_give_the_mean(pack, portraits):
    config = dataclasses.replace(CONFIG, stages=(StageConfig(space="w", steps=0), StageConfig(steps=0)))
    embedding = embed_portraits(pack, portraits[:1], config=config, batch=2)[0]
    np.testing.assert_array_equal(embedding.w_plus[3], pack.weights["generator"]["w_mean"])
    assert embedding.trace == {}


def test_neighbours_and_padding_do_not_matter(pack, portraits, embeddings):
    alone = embed_portraits(pack, portraits[2:], config=CONFIG, batch=2)[0]
    np.testing.assert_array_equal(alone.w_plus, embeddings[2].w_plus)
    other = embed_portraits(pack, portraits[[0, 2]], config=CONFIG, batch=2)
    np.testing.assert_array_equal(other[0].w_plus, embeddings[0].w_plus)
    np.testing.assert_allclose(other[1].w_plus, embeddings[2].w_plus, atol=1e-4)


def test_nothing_is_compiled_twice(pack, portraits, embeddings):
    from pie_jax.optimise import step

    def programs():
        return step._run_chunk._cache_size() + step._run_step._cache_size()

    before = programs()
    embed_portraits(pack, portraits[::-1], config=CONFIG, batch=2)
    assert programs() == before


def test_seeds_depend_on_the_portrait_alone(portraits):
    assert portrait_seed(portraits[0], 0) == portrait_seed(portraits[0].copy(), 0)
    seeds = {portrait_seed(p, s) for p in portraits for s in (0, 1)}
    assert len(seeds) == 6


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [4, 12, 16])
def test_a_resumed_run_ends_the_same(pack, portraits, embeddings, tmp_path, stop_at):
    saved = []

    def stop(event):
        if event.phase == "optimise" and event.step >= stop_at:
            saved.extend(event.checkpoints())
            raise Stop

    with pytest.raises(Stop):
        embed_portraits(pack, portraits[:2], config=CONFIG, batch=2, progress=stop)
    files = []
    for i, checkpoint in enumerate(saved):
        checkpoint.save(tmp_path / f"{i}.npz", facts={"photo": "x"})
        files.append(Checkpoint.load(tmp_path / f"{i}.npz"))
    resumed = embed_portraits(pack, portraits[:2], config=CONFIG, batch=2, resume=files)
    for a, b in zip(resumed, embeddings):
        np.testing.assert_array_equal(a.w_plus, b.w_plus)
        for name in b.trace:
            np.testing.assert_array_equal(a.trace[name], b.trace[name])
    mixed = embed_portraits(pack, portraits[:2], config=CONFIG, batch=2, resume=[files[0], None])
    np.testing.assert_array_equal(mixed[0].w_plus, embeddings[0].w_plus)
    np.testing.assert_allclose(mixed[1].w_plus, embeddings[1].w_plus, atol=1e-4)  # another row of the batch


def test_progress_is_reported_in_order(pack, portraits):
    events = []
    embed_portraits(pack, portraits[:1], config=CONFIG, batch=2, progress=events.append)
    assert [e.phase for e in events] == ["compile", *["optimise"] * 5]
    assert [e.step for e in events[1:]] == [4, 8, 12, 16, 20] and {e.steps for e in events} == {20}
    assert [e.space for e in events[1:]] == ["w"] * 3 + ["w_plus"] * 2
    assert all(np.isfinite(e.energy) for e in events[1:]) and events[1].portraits == (0,)


def test_a_bad_term_is_named_and_the_last_good_code_kept(pack, portraits):
    weights = dict(pack.weights)
    weights["generator"] = jax.tree.map(lambda a: a * np.float32(np.nan), weights["generator"])
    broken = dataclasses.replace(pack, weights=weights)
    embedding = embed_portraits(broken, portraits[:1], config=CONFIG, batch=2)[0]
    assert embedding.report["outcome"] == "non-finite"
    assert embedding.report["incidents"][0]["term"] == "synthesis"


def test_wrong_arguments(pack, portraits):
    for bad in (portraits[0], portraits[:, :SIDE // 2], portraits * 300, portraits * np.nan):
        with pytest.raises(ValueError, match="portraits"):
            embed_portraits(pack, bad, config=CONFIG)
    with pytest.raises(ValueError, match="batch"):
        embed_portraits(pack, portraits, config=CONFIG, batch=0)
    with pytest.raises(ValueError, match="resume"):
        embed_portraits(pack, portraits, config=CONFIG, resume=[None])
    with pytest.raises(PackError, match="generator"):
        embed_portraits(toy.toy_pack(jax.random.key(0), parts=("regressor",)), portraits)
    with pytest.raises(InputError, match="nobody.png"):
        embed_portraits(pack, ["nobody.png"], config=CONFIG)
    assert embed_portraits(pack, [], config=CONFIG) == []


# Files


def test_save_and_load(embeddings, tmp_path):
    embeddings[0].save(tmp_path / "embedding.npz")
    for place in (tmp_path, tmp_path / "embedding.npz"):
        loaded = Embedding.load(place)
        np.testing.assert_array_equal(loaded.w_plus, embeddings[0].w_plus)
        np.testing.assert_array_equal(loaded.params.to_vector(), embeddings[0].params.to_vector())
        np.testing.assert_array_equal(loaded.landmarks, embeddings[0].landmarks)
        np.testing.assert_array_equal(loaded.trace["energy"], embeddings[0].trace["energy"])
        assert loaded.config == CONFIG.on("cpu") and loaded.report == embeddings[0].report
        assert (loaded.pack_name, loaded.pack_hash) == ("toy", embeddings[0].pack_hash)


class Evil:
    def __reduce__(self):
        return (open, ("/nonexistent/canary", "w"))


def test_files_of_others_are_refused(embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr("pie_jax.io.npz.MAX_BYTES", 2**20)
    path = tmp_path / "embedding.npz"
    embeddings[0].save(path)
    whole = path.read_bytes()

    def refused(data, words):
        path.write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            Embedding.load(path)
        assert "embedding.npz" in str(caught.value) and "\n" not in str(caught.value)

    for percent in range(0, 100, 9):
        refused(whole[:len(whole) * percent // 100], "damaged")
    refused(b"<html>", "damaged")
    refused(pickle.dumps(Evil()), "damaged")
    buffer = io.BytesIO()
    np.savez(buffer, w_plus=np.array([Evil()], dtype=object), facts=np.array("{}"))
    refused(buffer.getvalue(), "damaged")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w_plus.npy", b"\0" * 3 * 2**20)
    refused(buffer.getvalue(), "unfolds to 3 MiB")
    facts = {"format": 99, "pack_name": "", "pack_hash": "", "config": {}, "report": {}}
    for change, words in (({"facts": np.array(json.dumps(facts))}, "format 99"), ({"facts": np.array("[]")}, "damaged"),
                          ({"w_plus": np.full((3, 4), np.nan, np.float32)}, "w_plus"), ({}, "embedding")):
        with np.load(io.BytesIO(whole)) as arrays:
            new = {name: arrays[name] for name in arrays.files} | change
        if not change:
            del new["w_plus"]
        buffer = io.BytesIO()
        np.savez(buffer, **new)
        refused(buffer.getvalue(), words)
    with pytest.raises(InputError, match="no embedding here"):
        Embedding.load(tmp_path / "nothing")


# Edits


def test_without_a_request_the_synthesis_comes_back(pack, embeddings):
    image = edit_portrait(pack, embeddings[0])
    assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1
    w_plus, params = edit_latent(pack, embeddings[0])
    np.testing.assert_array_equal(w_plus, embeddings[0].w_plus)
    assert params is embeddings[0].params


def test_targets_are_absolute_and_touch_nothing_else(pack, embeddings):
    before = embeddings[0].params
    _, after = edit_latent(pack, embeddings[0], yaw=20.0, expression={"jaw_open": 2.0}, light=(40.0, 10.0, 0.7))
    np.testing.assert_allclose(np.degrees(after.rotation)[1], 20.0, atol=1e-4)
    np.testing.assert_array_equal(after.rotation[[0, 2]], before.rotation[[0, 2]])
    assert after.expression[0] == 2.0
    np.testing.assert_array_equal(after.expression[1:], before.expression[1:])
    np.testing.assert_allclose(light_direction(after.illumination), (40.0, 10.0, 0.7), rtol=1e-4)
    for name in ("identity", "texture", "translation"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_rigs_are_chained_in_the_stated_order(pack, embeddings):
    from pie_jax.face3d.morphable import with_control
    from pie_jax.portrait.calibration import apply_rig
    from pie_jax.portrait.latent_edits import batched

    request = dict(yaw=30.0, expression={"smile_left": 3.0})
    got, target = edit_latent(pack, embeddings[0], order=("expression", "pose"), **request)
    source, wanted, w_plus = batched(embeddings[0].params), batched(target), embeddings[0].w_plus[None]
    for control in ("expression", "pose"):
        step = with_control(source, wanted, control)
        w_plus, source = apply_rig(pack, w_plus, source, step, control=control), step
    np.testing.assert_allclose(got, w_plus[0], atol=1e-6)
    other, _ = edit_latent(pack, embeddings[0], **request)
    assert np.abs(other - got).max() > 1e-5
    assert np.abs(edit_portrait(pack, embeddings[0], **request) - edit_portrait(pack, embeddings[0])).max() > 0


def calibrated(pack, **entries):
    """The pack with a calibration in its manifest that holds for its parts."""
    from pie_jax.portrait.calibration import part_hashes

    entry = {"parts": part_hashes(pack)} | entries
    return dataclasses.replace(pack, manifest=Manifest({**pack.manifest, "calibration": entry}))


CURVES = {"pose": {"0": {"asked": [-1.0, 0.0, 0.5, 1.0], "got": [-0.8, 0.0, 0.4, 0.65]},
                   "1": {"asked": [-1.0, 0.0, 1.0], "got": [-0.5, 0.0, 0.5]}}}


def test_a_measured_response_is_gone_through_backwards(pack, embeddings):
    from pie_jax.portrait.calibration import invert
    from pie_jax.portrait.latent_edits import batched

    known = calibrated(pack, curves=CURVES)
    source = batched(embeddings[0].params)

    def asked_for(change, pack=known, control="pose"):
        wanted = dataclasses.replace(source, rotation=source.rotation + np.float32([change]))
        return wanted, invert(pack, source, wanted, control=control)

    _, got = asked_for([0.2, 0.2, 0.3])
    np.testing.assert_allclose(got.rotation - source.rotation, [[0.25, 0.4, 0.3]], rtol=1e-5)
    _, got = asked_for([0.7, -1.0, 0.0])  # beyond the ends the last slope goes on, for a quarter of the range
    np.testing.assert_allclose(got.rotation - source.rotation, [[1.1, -1.25, 0.0]], rtol=1e-5, atol=1e-6)
    for other, control in ((pack, "pose"), (known, "expression")):  # nothing is known: nothing is changed
        wanted, got = asked_for([0.1, 0.2, 0.3], other, control)
        assert got is wanted
    parts = {"generator": {"sha256": "1" * 64}}
    stale = dataclasses.replace(known, manifest=Manifest({**known.manifest, "parts": parts}))
    wanted, got = asked_for([0.1, 0.2, 0.3], stale)
    assert got is wanted
    request = {"pitch": 20.0}
    assert np.abs(edit_portrait(known, embeddings[0], **request)
                  - edit_portrait(known, embeddings[0], invert_response=False, **request)).max() > 0


def test_what_lies_beyond_the_measured_range_is_said(pack, embeddings):
    from pie_jax.portrait import ReachWarning
    from pie_jax.portrait.calibration import range_warnings

    known = calibrated(pack, reach={"yaw": [-20.0, 25.0], "jaw_open": [-0.5, 2.0], "azimuth": [-60, 60]})
    assert range_warnings(known, yaw=25.0, pitch=80.0, expression={"jaw_open": 2.0, "smile_left": 9.0}) == []
    lines = range_warnings(known, yaw=30.0, expression={"jaw_open": -1.0}, light=(70.0, 0.0, 1.0))
    assert [line.split()[0] for line in lines] == ["azimuth", "jaw_open", "yaw"]
    assert lines[2] == "yaw 30: edits of this pack were measured to arrive from -20 to 25"
    with pytest.warns(ReachWarning, match="from -20 to 25"):
        edit_portrait(known, embeddings[0], yaw=-21.0)
    assert range_warnings(pack, yaw=89.0) == []


def test_looking_at_the_edit_makes_up_for_weak_rigs(pack, embeddings, monkeypatch):
    """Rigs that do 60 % of what they are asked, the second of which turns the face back: all arrives in the end."""
    from pie_jax.portrait import calibration
    from pie_jax.portrait.latent_edits import batched

    w_plus, source = jax.numpy.asarray(embeddings[0].w_plus)[None], batched(embeddings[0].params)
    w_plus = w_plus.at[:, 0, :3].set(source.rotation)

    def weak_rig(pack, w_plus, source, target, *, control):
        w_plus = jax.numpy.asarray(w_plus)
        if control == "expression":
            return w_plus.at[:, 0, :3].add(-0.05)
        return w_plus.at[:, 0, :3].add(0.6 * (target.rotation - source.rotation))

    def read(pack, w_plus):
        return dataclasses.replace(source, rotation=w_plus[:, 0, :3])

    monkeypatch.setattr(calibration, "apply_rig", weak_rig)
    monkeypatch.setattr(calibration, "read_codes", read)
    straight = {"asked": [-1.0, 0.0, 1.0], "got": [-1.0, 0.0, 1.0]}
    known = calibrated(pack, curves={"pose": {"0": straight, "1": straight}})
    change = np.float32([[0.1, -0.2, 0.3]])
    wanted = dataclasses.replace(source, rotation=source.rotation + change,
                                 expression=source.expression + np.float32(1.0))
    order = ("pose", "expression")
    got = [calibration.solve_edit(p, w_plus, source, wanted, order=order)[:, 0, :3] - source.rotation
           for p in (known, pack)]
    np.testing.assert_allclose(got[0][:, :2], change[:, :2], atol=0.03)  # what is missing: (0.4 change + 0.05) 0.52^3
    np.testing.assert_allclose(got[0][:, 2], 0.6 * change[:, 2] - 0.05, rtol=1e-5)  # roll has no curve
    np.testing.assert_allclose(got[1], 0.6 * change - 0.05, rtol=1e-4)  # nothing was measured: nothing is corrected
    with pytest.raises(UsageError, match="corrections"):
        edit_latent(pack, embeddings[0], yaw=1.0, corrections=-1)
    monkeypatch.setattr(calibration, "read_codes", None)  # nothing is read either
    quick = calibration.solve_edit(known, w_plus, source, wanted, order=order, corrections=0)[:, 0, :3]
    np.testing.assert_allclose(quick - source.rotation, 0.6 * change - 0.05, rtol=1e-4)


def test_like_takes_only_the_control(pack, portraits, embeddings, tmp_path):
    _, pose = edit_latent(pack, embeddings[0], like=(embeddings[1], ["pose"]))
    np.testing.assert_array_equal(pose.rotation, embeddings[1].portrait_params.rotation)
    np.testing.assert_array_equal(pose.expression, embeddings[0].params.expression)
    embeddings[1].save(tmp_path / "embedding.npz")
    _, same = edit_latent(pack, embeddings[0], like=(tmp_path, ("pose",)))
    np.testing.assert_array_equal(same.to_vector(), pose.to_vector())
    _, read = edit_latent(pack, embeddings[0], like=(portraits[1], ("illumination",)))
    np.testing.assert_allclose(read.illumination, embeddings[1].portrait_params.illumination, atol=1e-5)
    enlarged = np.round(portraits[1] * 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(enlarged).save(tmp_path / "photo.png")
    _, photo = edit_latent(pack, embeddings[0], like=(tmp_path / "photo.png", ("illumination",)), yaw=5.0)
    np.testing.assert_allclose(photo.illumination, read.illumination, atol=2e-2)
    np.testing.assert_allclose(np.degrees(photo.rotation[1]), 5.0, atol=1e-4)
    zeros = jax.tree.map(np.asarray, FaceParams.zeros())
    _, plain = edit_latent(pack, embeddings[0], like=(zeros, ("expression",)))
    assert not plain.expression.any()


def test_bad_requests_say_what_is_near(pack, embeddings, tmp_path):
    with pytest.raises(UsageError, match="jaw_open"):
        edit_portrait(pack, embeddings[0], expression={"jaw_opn": 1.0})
    with pytest.raises(UsageError, match="illumination"):
        edit_portrait(pack, embeddings[0], like=(embeddings[1], ["ilumination"]))
    for bad in ({"yaw": 120.0}, {"roll": float("nan")}, {"light": (0.0, float("inf"), 1.0)},
                {"expression": {"jaw_open": float("nan")}}):
        with pytest.raises(UsageError):
            edit_portrait(pack, embeddings[0], **bad)
    with pytest.raises(InputError):
        edit_portrait(pack, embeddings[0], like=(tmp_path / "nobody.jpg", ["pose"]))


def test_missing_parts_and_other_packs_are_named(pack, embeddings):
    poor = dataclasses.replace(pack, weights={"generator": pack.weights["generator"]})
    assert edit_portrait(poor, embeddings[0]).shape == (SIDE, SIDE, 3)
    with pytest.raises(PackError, match="rignet_pose"):
        edit_portrait(poor, embeddings[0], yaw=10.0)
    blind = dataclasses.replace(embeddings[0], params=None)
    with pytest.raises(PackError, match="regressor"):
        edit_portrait(pack, blind, yaw=10.0)
    changed = dataclasses.replace(pack, manifest=Manifest(name="toy", parts={"generator": {"sha256": "1" * 64}}))
    with pytest.raises(PackError, match="another state"):
        edit_portrait(changed, embeddings[0], yaw=10.0)
    with pytest.raises(PackError, match="--pack"):
        edit_portrait(pack, dataclasses.replace(embeddings[0], w_plus=np.zeros((18, 512), np.float32)))
