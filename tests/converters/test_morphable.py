"""Morphable models of every public layout: the same vertices, colours and landmarks as each model's own formula."""

import argparse
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
from torch_or_numpy import relative

from converters import morphable
from converters.morphable import points
from converters.morphable.build import SKIN, outward
from converters.readers import read
from pie_jax.errors import PackError
from pie_jax.face3d.morphable import FaceParams, albedo, shape
from pie_jax.nn.landmarks import FROM_68
from pie_jax.pack import load_pack

V = 90
RNG = np.random.default_rng(0)
KEYPOINTS = RNG.permutation(V)[:68]
TRIANGLES = np.stack([RNG.permutation(V)[:3] for _ in range(120)])
A, B, D = RNG.normal(size=(2, 80)), RNG.normal(size=(2, 64)), RNG.normal(size=(2, 80))


def convert(path, **options):
    return morphable.convert(read(path), argparse.Namespace(**{"landmarks": None, "deep3d": None, **options}))


def evaluate(model):
    """Vertices, colours, landmarks of A, B, D."""
    params = dataclasses.replace(FaceParams.zeros(leading=(2,)), **{
        name: jnp.asarray(value, jnp.float32)
        for name, value in (("identity", A), ("expression", B), ("texture", D))})
    model = jax.tree.map(jnp.asarray, model)
    vertices, colours = jax.jit(lambda m, p: (shape(m, p), albedo(m, p)))(model, params)
    return np.asarray(vertices), np.asarray(colours), np.asarray(vertices)[:, np.asarray(model.landmark_vertices)]


def agree(model, vertices, colours, keypoints):
    """All three within 1e-5 of the reference's largest number."""
    got = evaluate(model)
    due = (vertices, colours, vertices[:, np.asarray(keypoints)[np.asarray(FROM_68)]])
    assert all(relative(g, d) < 1e-5 for g, d in zip(got, due))


def deep3d(base=V, seed=1):
    """BFM_model_front.mat's variables: 1-based floats, flat bases."""
    rng = np.random.default_rng(seed)
    return {"meanshape": rng.normal(size=(1, 3 * base)) + 0.3, "meantex": rng.uniform(60, 200, size=(1, 3 * base)),
            "idBase": np.float32(0.1 * rng.normal(size=(3 * base, 80))),
            "exBase": 0.1 * rng.normal(size=(3 * base, 64)),
            "texBase": 5 * rng.normal(size=(3 * base, 80)), "tri": np.float32(TRIANGLES + 1),
            "point_buf": np.ones((base, 8), np.float32), "tri_mask2": np.ones((9, 3), np.float32),
            "keypoints": np.float32(KEYPOINTS.reshape(1, 68) + 1), "frontmask2_idx": np.ones((5, 1), np.float32),
            "skinmask": np.ones((1, base), np.float32)}


def test_deep3d_front(tmp_path, capsys):
    t = deep3d()
    scipy.io.savemat(tmp_path / "BFM_model_front.mat", t, do_compression=True)
    converted = convert(tmp_path / "BFM_model_front.mat")
    mean = t["meanshape"].reshape(-1, 3)
    flat = (A @ t["idBase"].T + B @ t["exBase"].T).reshape(2, V, 3) + mean - mean.mean(axis=0)
    colours = (D @ t["texBase"].T + t["meantex"]).reshape(2, V, 3) / 255
    agree(converted.weights, flat, colours, KEYPOINTS)
    np.testing.assert_array_equal(converted.weights.triangles, TRIANGLES)
    assert converted.table.complete and not converted.notes

    np.savez(tmp_path / "reference.npz", identity=A, expression=B, texture=D, vertices=flat, albedo=colours)
    command = [str(tmp_path / "BFM_model_front.mat"), "--pack", str(tmp_path / "pack")]
    assert morphable.main([*command, "--tolerance", "1e-5", "--check", str(tmp_path / "reference.npz")]) == 0
    assert "check vertices" in capsys.readouterr().out
    assert load_pack(tmp_path / "pack").morphable.landmark_vertices.shape == (66,)

    for name, wrong, word in (("tri", t["tri"] + 60, "triangles"), ("idBase", t["idBase"][:-3], "idBase"),
                              ("texBase", np.where(t["texBase"] > 12, np.inf, t["texBase"]), "texBase")):
        scipy.io.savemat(tmp_path / "wrong.mat", t | {name: wrong})
        assert morphable.main([str(tmp_path / "wrong.mat"), "--dry-run"]) == 4
        assert word in capsys.readouterr().err


def test_fewer_components_are_padded_and_said(tmp_path):
    t = deep3d()
    t["exBase"] = t["exBase"][:, :10]
    scipy.io.savemat(tmp_path / "few.mat", t)
    converted = convert(tmp_path / "few.mat")
    assert any("padded with 54" in note for note in converted.notes)
    assert not np.any(converted.weights.expression_basis[:, :, 10:])
    np.testing.assert_allclose(converted.weights.expression_basis[:, :, :10], t["exBase"].reshape(V, 3, 10), rtol=1e-6)


def basel_2009(rng, count):
    return {"shapeMU": 1e5 * rng.normal(size=(3 * count, 1)), "shapePC": rng.normal(size=(3 * count, 99)),
            "shapeEV": rng.uniform(1e2, 1e4, size=(99, 1)), "texMU": rng.uniform(60, 200, size=(3 * count, 1)),
            "texPC": rng.normal(size=(3 * count, 99)), "texEV": rng.uniform(1, 9, size=(99, 1)),
            "tl": TRIANGLES + 1.0, "segbin": np.ones((count, 4))}


def test_basel_2009_with_deep3ds_folder(tmp_path, monkeypatch):
    """The same as Deep3D's transferBFM09, written out here, on small index files."""
    rng = np.random.default_rng(2)
    raw_count, trimmed = V + 30, V + 12
    t = basel_2009(rng, raw_count)
    trim, front = rng.permutation(raw_count)[:trimmed], rng.permutation(trimmed)[:V]
    components, deviations = np.float32(rng.normal(size=(79, 3 * trimmed))), rng.uniform(1e2, 1e4, size=79)
    scipy.io.savemat(tmp_path / "01_MorphableModel.mat", t)
    folder = tmp_path / "BFM"
    folder.mkdir()
    scipy.io.savemat(folder / "BFM_exp_idx.mat", {"trimIndex": np.uint16(trim + 1).reshape(-1, 1)})
    scipy.io.savemat(folder / "BFM_front_idx.mat", {"idx": np.float64(front + 1).reshape(-1, 1)})
    info = {k: v for k, v in deep3d().items() if k in ("tri", "point_buf", "tri_mask2", "keypoints", "frontmask2_idx",
                                                       "skinmask")}
    scipy.io.savemat(folder / "facemodel_info.mat", info)
    scipy.io.savemat(folder / "select_vertex_id.mat", {"select_id": np.ones((V, 1))})
    (folder / "Exp_Pca.bin").write_bytes(np.int32(79).tobytes() + np.float32(rng.normal(size=3 * trimmed)).tobytes()
                                         + components.tobytes())
    (folder / "std_exp.txt").write_text(" ".join(f"{x:.9e}" for x in deviations))
    monkeypatch.setattr("converters.morphable.bfm._EXPRESSION_VERTICES", trimmed)
    converted = convert(tmp_path / "01_MorphableModel.mat", deep3d=str(folder))

    keep = trim[front]
    identity = (t["shapePC"] * t["shapeEV"].T / 1e5)[:, :80].reshape(-1, 3, 80)[keep]
    texture = (t["texPC"] * t["texEV"].T)[:, :80].reshape(-1, 3, 80)[keep]
    expression = (components.T * deviations / 1e5)[:, :64].reshape(-1, 3, 64)[front]
    mean = t["shapeMU"].reshape(-1, 3)[keep] / 1e5
    vertices = identity @ A.T + expression @ B.T
    vertices = np.moveaxis(vertices, -1, 0) + mean - mean.mean(axis=0)
    colours = (np.moveaxis(texture @ D.T, -1, 0) + t["texMU"].reshape(-1, 3)[keep]) / 255
    agree(converted.weights, vertices, colours, KEYPOINTS)
    np.testing.assert_array_equal(converted.weights.triangles, TRIANGLES)


def test_basel_2009_alone(tmp_path):
    t = basel_2009(np.random.default_rng(3), V)
    scipy.io.savemat(tmp_path / "01_MorphableModel.mat", t)
    with pytest.raises(PackError, match="--landmarks"):
        convert(tmp_path / "01_MorphableModel.mat")
    np.save(tmp_path / "points.npy", KEYPOINTS)
    converted = convert(tmp_path / "01_MorphableModel.mat", landmarks=str(tmp_path / "points.npy"))
    mean = t["shapeMU"].reshape(-1, 3) / 1e5
    identity = (t["shapePC"] * t["shapeEV"].T / 1e5)[:, :80].reshape(V, 3, 80)
    vertices = np.moveaxis(identity @ A.T, -1, 0) + mean - mean.mean(axis=0)
    texture = (t["texPC"] * t["texEV"].T)[:, :80].reshape(V, 3, 80)
    colours = (np.moveaxis(texture @ D.T, -1, 0) + t["texMU"].reshape(-1, 3)) / 255
    agree(converted.weights, vertices, colours, KEYPOINTS)
    assert any("expression: 0 components" in note for note in converted.notes)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_basel_2017_and_2019(tmp_path, scale):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(4)
    means = {"shape": 80 * rng.normal(size=3 * V), "expression": rng.normal(size=3 * V),
             "color": scale * rng.uniform(0.2, 0.8, size=3 * V)}
    counts = {"shape": 99, "expression": 70, "color": 99}
    bases = {name: rng.normal(size=(3 * V, count)) for name, count in counts.items()}
    variances = {name: rng.uniform(0.5, 2, size=b.shape[1]) * (scale**2 * 1e-4 if name == "color" else 1)
                 for name, b in bases.items()}
    with h5py.File(tmp_path / "model.h5", "w") as file:
        for name in means:
            group = file.create_group(f"{name}/model")
            for key, value in (("mean", means[name]), ("pcaBasis", bases[name]), ("pcaVariance", variances[name])):
                group.create_dataset(key, data=np.float32(value))
            group["noiseVariance"] = np.float32(0)
            representer = file.create_group(f"{name}/representer")
            representer["points"] = np.float32(means["shape"].reshape(-1, 3).T)
            representer["cells"] = np.int32(TRIANGLES.T)
        file["metadata/landmarks/json"] = json.dumps([{"id": "center.nose.tip", "coordinates": [0, 0, 1]}])
        file["version/majorVersion"] = np.int32(0)
    np.savez(tmp_path / "points.npz", KEYPOINTS[np.asarray(FROM_68)])
    converted = convert(tmp_path / "model.h5", landmarks=str(tmp_path / "points.npz"))

    def part(name, coefficients):
        count = coefficients.shape[1]
        basis = np.float64(np.float32(bases[name]))[:, :count] * np.sqrt(np.float32(variances[name])[:count])
        return (coefficients @ basis.T).reshape(2, V, 3)

    mean = (means["shape"] + means["expression"]).reshape(V, 3)
    vertices = (part("shape", A) + part("expression", B) + mean - mean.mean(axis=0)) / 100
    colours = (part("color", D) + means["color"].reshape(V, 3)) / scale
    agree(converted.weights, vertices, colours, KEYPOINTS)
    assert sum("are kept" in note for note in converted.notes) == 3 and converted.table.complete


def test_flame(tmp_path):
    rng = np.random.default_rng(5)
    model = {"f": np.uint32(TRIANGLES), "v_template": 0.1 * rng.normal(size=(V, 3)),
             "shapedirs": 0.01 * rng.normal(size=(V, 3, 400)), "posedirs": np.zeros((V, 3, 36)),
             "J_regressor": np.zeros((5, V)), "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
             "weights": np.zeros((V, 5)), "J": np.zeros((5, 3)), "bs_style": "lbs", "bs_type": "lrotmin"}
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps(model, protocol=2))
    triangle_of = [int(np.flatnonzero(np.any(k == TRIANGLES, axis=1))[0]) if np.any(k == TRIANGLES) else 0
                   for k in KEYPOINTS]
    weights = np.zeros((68, 3))
    for row, (k, t) in enumerate(zip(KEYPOINTS, triangle_of)):
        weights[row] = np.where(TRIANGLES[t] == k, 0.8, 0.1)
    np.savez(tmp_path / "embedding.npz", lmk_faces_idx=np.array(triangle_of), lmk_bary_coords=weights)
    keypoints = np.array([TRIANGLES[t][np.argmax(w)] for t, w in zip(triangle_of, weights)])
    converted = convert(tmp_path / "generic_model.pkl", landmarks=str(tmp_path / "embedding.npz"))
    mean = 10 * model["v_template"]
    mean = mean - mean[keypoints[np.asarray(FROM_68)]].mean(axis=0)
    dirs = 10 * model["shapedirs"]
    vertices = np.moveaxis(dirs[:, :, :80] @ A.T + dirs[:, :, 300:364] @ B.T, -1, 0) + mean
    agree(converted.weights, vertices, np.broadcast_to(SKIN, (2, V, 3)), keypoints)
    assert converted.table.complete and converted.table.count("left out") == 5
    assert any("train another regressor" in note for note in converted.notes)

    model["shapedirs"] = model["shapedirs"][:, :, :150]
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(model, protocol=2))
    with pytest.raises(PackError, match="shapedirs"):
        convert(tmp_path / "other.pkl", landmarks=str(tmp_path / "embedding.npz"))


def test_ict_facekit(tmp_path):
    rng = np.random.default_rng(6)
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    quads, single = np.stack([rng.permutation(V)[:4] for _ in range(40)]), TRIANGLES[:5]
    names = [f"expression{i:02d}" for i in range(7)]
    meshes = {"generic_neutral_mesh": 5 * rng.normal(size=(V, 3))}
    for name in (*(f"identity{i:03d}" for i in range(90)), *names, "PupilDilate_L"):
        meshes[name] = meshes["generic_neutral_mesh"] + 0.1 * rng.normal(size=(V, 3))
    for name, vertices in meshes.items():
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + ["vt 0.5 0.5"]
        lines += ["f " + " ".join(f"{i + 1}/1" for i in face) for face in [*quads.tolist(), *single.tolist()]]
        (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
        meshes[name] = np.round(vertices, 6)
    (folder / "vertex_indices.json").write_text(json.dumps(
        {"expressions": names[::-1], "idx_to_landmark_verts": KEYPOINTS.tolist()}))
    converted = convert(tmp_path)
    neutral = meshes["generic_neutral_mesh"] / 10
    vertices = np.repeat((neutral - neutral[KEYPOINTS[np.asarray(FROM_68)]].mean(axis=0))[None], 2, axis=0)
    for i in range(80):
        vertices = vertices + A[:, i, None, None] * (meshes[f"identity{i:03d}"] / 10 - neutral)
    for i, name in enumerate(names[::-1]):
        vertices = vertices + B[:, i, None, None] * (meshes[name] / 10 - neutral)
    agree(converted.weights, vertices, np.broadcast_to(SKIN, (2, V, 3)), KEYPOINTS)
    assert converted.weights.expression_names[:8] == (*names[::-1], "unused_7")
    assert converted.weights.triangles.shape == (2 * 40 + 5, 3)
    (folder / names[0]).with_suffix(".obj").unlink()
    with pytest.raises(PackError, match=f"{names[0]}.vertices"):
        convert(tmp_path)


def test_landmarks_laid_on_another_head_come_near_its_own():
    """The project's head, moved and scaled a little: every point within 3 mm of where its own landmark went."""
    from pie_jax.studio.head import build_head

    own = build_head().morphable
    vertices = 1.03 * np.asarray(own.mean_shape, np.float64) + [0.02, -0.4, 0.7]
    found = points.lay_on(vertices)
    distance = np.linalg.norm(vertices[found] - vertices[np.asarray(own.landmark_vertices)], axis=1)
    assert distance.max() < 0.03


def test_winding_is_turned_outward():
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    outside = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    np.testing.assert_array_equal(outward(corners, outside), outside)
    np.testing.assert_array_equal(outward(corners, outside[:, ::-1]), outside)
