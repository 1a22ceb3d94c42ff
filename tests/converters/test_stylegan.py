"""converters.stylegan: every layout, written with random weights, against slow forwards in the originals' semantics."""

import argparse
import json
import math

import checkpoint_files as files
import numpy as np
import pytest
from checkpoint_files import Call
from slow_stylegan import mapped, nvidia1_image, nvidia2_image, rosinality1_image
from stylegan_layouts import (
    W,
    genforce1,
    lernapparat1,
    nvidia1,
    nvidia2,
    nvidia2_module,
    rosinality1,
    rosinality2,
    tensorflow2,
)

from converters import stylegan
from converters.readers import Checkpoint, read
from converters.table import Mismatch
from pie_jax.errors import PackError
from pie_jax.pack import load_pack, read_manifest


def latents(layers):
    rng = np.random.default_rng(7)
    return rng.normal(size=(2, W)), rng.normal(size=(2, layers, W))


def mapped2(t, z):
    layers = [(t[f"mapping.fc{i}.weight"], t[f"mapping.fc{i}.bias"]) for i in range(2)]
    return mapped(z, layers, scale=0.01, bias_scale=0.01, gain=math.sqrt(2))


def mapped1(mapping, z):
    layers = [(mapping[f"Dense{i}/weight"].T, mapping[f"Dense{i}/bias"]) for i in range(2)]
    return mapped(z, layers, scale=0.01 * math.sqrt(2), bias_scale=0.01, gain=1.0)


def check(path, *, w, image, z, w_plus, **options):
    """Converts and compares both networks: relative errors at most 1e-4."""
    converted = stylegan.convert(read(path), argparse.Namespace(**options))
    assert converted.table.complete
    got = stylegan.forward(converted, {"z": z, "w": w, "w_plus": w_plus, "image": image})
    assert got["w"].shape == w.shape and got["image"].shape == image.shape
    for name, due in (("w", w), ("image", image)):
        assert np.abs(got[name] - due).max() <= 1e-4 * np.abs(due).max(), name
    return converted


CASES2 = [("persistence", None), ("persistence", 2.0), ("persistence-legacy-protocol", 2.0), ("safetensors", 2.0),
          ("rosinality", None), ("rosinality-legacy", None), ("tensorflow", None), ("tensorflow", 2.0)]


@pytest.mark.parametrize("layout, clamp", CASES2)  # rosinality's generator has no clamp
def test_stylegan2(tmp_path, layout, clamp):
    t = nvidia2(16)
    z, w_plus = latents(6)
    path = tmp_path / "generator"
    options = {}
    if layout.startswith("persistence"):
        module = nvidia2_module(t, clamp=clamp, half_from=8)
        files.persistence(path, {"G": Call("argparse.Namespace", ()), "D": None, "G_ema": module},
                          protocol=2 if "legacy" in layout else 4)
    elif layout == "safetensors":
        files.safetensors(path, {k: np.array(a, order="C") for k, a in t.items()})
        options["clamp"] = clamp or 0.0
    elif layout == "tensorflow":
        files.tf_pickle(path, tensorflow2(t, 16, **({} if clamp is None else {"conv_clamp": clamp})))
    else:
        write = files.torch_legacy if "legacy" in layout else files.torch_zip
        write(path, {"g_ema": rosinality2(t, 16), "latent_avg": t["mapping.w_avg"], "d": {"x": W * t["mapping.w_avg"]}})
    image = nvidia2_image(t, w_plus, resolution=16, clamp=clamp)
    if clamp is not None:
        assert np.abs(image - nvidia2_image(t, w_plus, resolution=16)).max() > 0.1
    converted = check(path, w=mapped2(t, z), image=image, z=z, w_plus=w_plus, **options)
    assert converted.config.clamp == clamp and converted.config.resolution == 16
    np.testing.assert_array_equal(converted.weights["w_mean"], t["mapping.w_avg"])
    if layout.startswith("persistence"):
        assert "float16 at 8, 16 px" in converted.notes[0]


@pytest.mark.parametrize("layout", ["persistence", "tensorflow"])
def test_stylegan2_residual(tmp_path, layout):
    t = nvidia2(16, synthesis="resnet")
    z, w_plus = latents(6)
    clamp = 3.0 if layout == "persistence" else None  # clamps scale with the residual's gain
    path = tmp_path / "generator.pkl"
    if layout == "persistence":
        files.persistence(path, {"G_ema": nvidia2_module(t, clamp=clamp)})
    else:
        files.tf_pickle(path, tensorflow2(t, 16, architecture="resnet"))
    image = nvidia2_image(t, w_plus, resolution=16, clamp=clamp)
    converted = check(path, w=mapped2(t, z), image=image, z=z, w_plus=w_plus)
    assert converted.config.synthesis == "resnet"


def test_rosinality_training_checkpoint_lacks_mean_and_noise(tmp_path):
    t = nvidia2(8)
    own = {name: a for name, a in rosinality2(t, 8).items() if not name.startswith("noises.")}
    own = {f"module.{name}": a for name, a in own.items()}
    arguments = Call("argparse.Namespace", (), {"size": 8})
    path = files.torch_zip(tmp_path / "550000.pt", {"g": own, "g_ema": own, "g_optim": {}, "args": arguments})
    converted = stylegan.convert(read(path), argparse.Namespace())
    assert sum("seed" in note for note in converted.notes) == 2
    noise = {}
    for n, layer in ((4, "conv1"), (8, "conv0"), (8, "conv1")):
        noise[f"synthesis.b{n}.{layer}.noise_const"] = converted.weights["synthesis"][f"b{n}"][layer]["noise_const"]
    z, w_plus = latents(4)
    check(path, w=mapped2(t, z), image=nvidia2_image(t | noise, w_plus, resolution=8), z=z, w_plus=w_plus)
    many = mapped2(t, np.random.default_rng(9).normal(size=(20_000, W)))
    np.testing.assert_allclose(converted.weights["w_mean"], many.mean(axis=0), atol=4 * many.std() / math.sqrt(10_000))


@pytest.mark.parametrize("layout", ["tensorflow", "genforce", "lernapparat"])
def test_stylegan1(tmp_path, layout):
    mapping, t = nvidia1(128)
    z, w_plus = latents(12)
    mean = np.arange(W, dtype=np.float32)
    path = tmp_path / "generator"
    if layout == "tensorflow":
        parts = {"mapping": files.tf_network(mapping), "synthesis": files.tf_network(t)}
        network = files.tf_network({"lod": np.float32(0), "dlatent_avg": mean}, components=parts, version=3,
                                   static_kwargs={"num_channels": 3, "resolution": 128, "label_size": 0})
        files.tf_pickle(path, network)
    elif layout == "genforce":
        files.torch_zip(path, genforce1(mapping, t, 128, mean))
    else:
        files.torch_zip(path, lernapparat1(mapping, t, 128))
        weights = stylegan.convert(read(path), argparse.Namespace()).weights["synthesis"]
        for index in range(12):  # drawn, as the file has none
            noise = weights[f"b{4 * 2**(index // 2)}"][f"conv{index % 2}"]["noise_const"]
            assert noise.std() == pytest.approx(1.0, abs=0.3)
            t[f"noise{index}"] = noise[None, None]
    converted = check(path, w=mapped1(mapping, z), image=nvidia1_image(t, w_plus, resolution=128), z=z, w_plus=w_plus)
    assert converted.config.architecture == "stylegan1" and converted.config.instance_norm_eps == 1e-8
    if layout != "lernapparat":
        np.testing.assert_array_equal(converted.weights["w_mean"], mean)


def test_rosinality_stylegan1_is_another_network(tmp_path):
    r = rosinality1(6, trained=64, fused_from=32)
    path = files.torch_zip(tmp_path / "train.model", {"generator": r, "g_running": r, "g_optimizer": {}})
    converted = stylegan.convert(read(path), argparse.Namespace())
    assert converted.config.resolution == 64 and converted.config.bias_before_blur
    noise = [converted.weights["synthesis"][f"b{4 * 2**i}"]["conv0"]["noise_const"] for i in range(5)]
    z, _ = latents(10)
    layers = [(r[f"style.{i}.linear.weight_orig"], r[f"style.{i}.linear.bias"]) for i in (1, 3)]
    w = mapped(z, layers, scale=math.sqrt(2), bias_scale=1.0, gain=1.0)
    w_plus = np.repeat(w[:, None], 10, axis=1)
    check(path, w=w, image=rosinality1_image(r, w, noise, step=4), z=z, w_plus=w_plus)
    w_plus = w_plus[:, :6]
    check(path, w=w, image=rosinality1_image(r, w, noise, step=2), z=z, w_plus=w_plus, resolution=16)
    with pytest.raises(PackError, match="--resolution 1024 is not among them"):
        stylegan.convert(read(path), argparse.Namespace(resolution=1024))


def test_what_does_not_fit_is_an_error_with_the_table(tmp_path, capsys):
    t = nvidia2(8)
    name = "synthesis.b8.conv0.weight"
    cases = (({k: a for k, a in t.items() if k != "synthesis.b8.conv1.bias"}, "missing: synthesis.b8.conv1.bias"),
             (t | {"extra": t["mapping.w_avg"]}, "unknown: extra"),
             (t | {"synthesis.b8.conv1.noise_const": np.zeros((4, 4), np.float32)}, "wrong: synthesis.b8.conv1.noise"),
             (t | {"synthesis.b8.conv1.resample_filter": np.ones((4, 4), np.float32)}, "wrong: synthesis.b8.conv1.res"),
             (t | {"mapping.embed.weight": t["mapping.w_avg"]}, "class-conditional"),
             (t | {"synthesis.input.freqs": t["mapping.w_avg"]}, "StyleGAN3"),
             ({k: a for k, a in t.items() if not k.startswith("synthesis.b4.torgb")}, "'orig' generator"),
             (t | {name: t[name] * np.float32(np.nan)}, f"{name} holds"))
    for tensors, message in cases:
        path = files.torch_zip(tmp_path / "g.pt", tensors)
        with pytest.raises(PackError, match=message) as info:
            stylegan.convert(read(path), argparse.Namespace(clamp=0.0))
        if isinstance(info.value, Mismatch):
            assert not info.value.table.complete
    assert stylegan.main([str(path), "--dry-run", "--clamp", "0"]) == 4
    transposed = t | {name: t[name].swapaxes(2, 3)[:, :4]}
    path = files.torch_zip(tmp_path / "g.pt", transposed)
    capsys.readouterr()
    assert stylegan.main([str(path), "--dry-run", "--clamp", "0"]) == 4
    assert "conv0/weight has shape [3, 3, 4, 8], expected [3, 3, 8, 8]" in capsys.readouterr().err
    path = files.torch_zip(tmp_path / "g.pt", cases[1][0])
    assert stylegan.main([str(path), "--dry-run", "--clamp", "0", "--json"]) == 4
    out, err = capsys.readouterr()
    row = next(row for row in json.loads(out)["tensors"] if row["name"] == "extra")
    assert row["status"] == "unknown" and err.count("\n") == 1


def test_settings_that_are_not_supported_are_refused(tmp_path):
    t = nvidia2(8)
    for setting in ({"num_channels": 1}, {"nonlinearity": "relu"}, {"resample_kernel": [1, 2, 1]}, {"label_size": 10}):
        path = files.tf_pickle(tmp_path / "g.pkl", tensorflow2(t, 8, **setting))
        with pytest.raises(PackError, match=f"built with {next(iter(setting))}"):
            stylegan.convert(read(path), argparse.Namespace())
    path = files.torch_zip(tmp_path / "g.pt", t)
    with pytest.raises(PackError, match="give --clamp 256"):
        stylegan.convert(read(path), argparse.Namespace())
    path = files.torch_zip(tmp_path / "g.pt", {"features.0.weight": t["mapping.w_avg"]})
    with pytest.raises(PackError, match="no StyleGAN generator of a known layout"):
        stylegan.convert(read(path), argparse.Namespace())


def test_the_command_writes_a_pack_that_is_the_same_function(tmp_path, capsys):
    t = nvidia2(8)
    z, w_plus = latents(4)
    path = files.persistence(tmp_path / "ffhq.pkl", {"G_ema": nvidia2_module(t, clamp=256.0)})
    image = nvidia2_image(t, w_plus, resolution=8, clamp=256.0)
    np.savez(tmp_path / "reference.npz", z=z, w=mapped2(t, z), w_plus=w_plus, image=image.transpose(0, 2, 3, 1))
    pack, reference = tmp_path / "pack", str(tmp_path / "reference.npz")
    assert stylegan.main([str(path), "--dry-run", "--check", reference]) == 0
    out = capsys.readouterr().out
    assert "nothing written" in out and "check image: largest relative error" in out and not pack.exists()
    assert "synthesis.b4.const" in out and "synthesis/b4/const" in out
    assert stylegan.main([str(path), "--pack", str(pack), "--name", "ffhq", "--check", reference, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["written"] and result["check"]["image"] < 1e-5 and result["config"]["clamp"] == 256.0
    manifest = read_manifest(pack)
    record = manifest["training"]["generator"]
    assert manifest["name"] == "ffhq" and "NVIDIA" in record["licence"]
    assert record["converted_from"]["sha256"] == read(path).sha256() and record["converted_from"]["file"] == "ffhq.pkl"
    loaded = load_pack(pack)
    np.testing.assert_array_equal(loaded.weights["generator"]["synthesis"]["b8"]["conv0"]["weight"],
                                  t["synthesis.b8.conv0.weight"].transpose(2, 3, 1, 0))
    np.savez(reference, w_plus=w_plus, image=image + 0.01)
    assert stylegan.main([str(path), "--dry-run", "--check", reference]) == 4
    assert "image differs by" in capsys.readouterr().err
    np.savez(reference, other=w_plus)
    assert stylegan.main([str(path), "--dry-run", "--check", reference]) == 4
    assert stylegan.main([str(path)]) == 2 and stylegan.main([str(path), "--pcak", "x"]) == 2
    assert "--pack" in capsys.readouterr().err


def test_a_tensor_short_in_every_layout_is_an_error(tmp_path):
    """Each tensor in turn is taken out or loses an axis: never another exception, never a pack."""
    t = nvidia2(8)
    mapping, variables = nvidia1(8)
    layouts = [t, rosinality2(t, 8), genforce1(mapping, variables, 8, t["mapping.w_avg"]),
               lernapparat1(mapping, variables, 8), rosinality1(2, trained=8, fused_from=8)]
    marks = {"synthesis.b4.const", "conv1.conv.modulation.weight", "synthesis.layer0.first_layer",
             "g_synthesis.torgb.weight", "generator.progression.0.conv1.input"}
    optional = ("noise", "mapping.w_avg", "truncation.w_avg", ".kernel", "lod", "weight_flip", "synthesis.output0",
                "to_rgb.0", "conv1.1.weight")
    for tensors in layouts:
        for i, name in enumerate(tensors):
            if any(part in name for part in optional):
                continue
            shorter = {k: v for k, v in tensors.items() if k != name}
            misshapen = shorter | {name: tensors[name].reshape(-1)[:1]}
            for changed in ([] if name in marks else [shorter]) + ([misshapen] if i % 4 == 0 else []):
                checkpoint = Checkpoint(path=tmp_path / "g.pt", format="torch-zip", tree=changed)
                with pytest.raises(PackError):
                    stylegan.convert(checkpoint, argparse.Namespace(clamp=0.0, resolution=8))
