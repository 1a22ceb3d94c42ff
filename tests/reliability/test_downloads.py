"""What people really have: networks under a prefix, shards, a whole generator, full folders, references of any size."""

import json

import checkpoint_files as files
import numpy as np
import pytest
from stylegan_layouts import nvidia2, nvidia2_module, rosinality1, rosinality2
from test_landmarks import tensors_of as fan
from test_regressor import tensors_of as resnet
from test_rignet import linear_rig
from test_vgg import SIDE, face_file, images, layers, reference, torchvision

from converters import landmarks, regressor, rignet, stylegan, vgg
from converters.all import main as convert_all
from converters.prefixes import parts, under_prefix
from converters.readers import read
from pie_jax.config import VGGConfig
from pie_jax.pack import load_pack, read_manifest


def run(module, path, capsys, *more):
    """(exit code, facts or None, stderr) of a dry run."""
    code = module.main([str(path), "--dry-run", "--json", *more])
    streams = capsys.readouterr()
    return code, json.loads(streams.out) if code == 0 else None, streams.err


NETWORKS = {  # kind -> (its converter, options, tensors, keys around the tensors)
    "vgg": (vgg, (), lambda: torchvision(layers()), ()),
    "deep3d": (regressor, (), lambda: resnet("resnet18"), ("net_recon",)),
    "rig": (rignet, (), lambda: linear_rig(3), ()),
    "fan": (landmarks, (), fan, ()),
    "stylegan2 nvidia": (stylegan, ("--clamp", "0"), lambda: nvidia2(8), ()),
    "stylegan2 rosinality": (stylegan, (), lambda: rosinality2(nvidia2(8), 8), ("g_ema",)),
    "stylegan1 rosinality": (stylegan, (), lambda: rosinality1(3, trained=16, fused_from=32), ("g_running",))}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "generator.", "model.", "net.model."])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_common_prefix_is_taken_off(tmp_path, capsys, kind, prefix):
    module, options, make, around = NETWORKS[kind]
    tensors = {name: np.array(array, order="C") for name, array in make().items()}

    def written(name, tree):
        for key in around:
            tree = {key: tree}
        return files.torch_zip(tmp_path / name, tree)

    code, due, err = run(module, written("a.pt", tensors), capsys, *options)
    assert code == 0, err
    code, found, err = run(module, written("b.pt", {f"{prefix}{n}": a for n, a in tensors.items()}), capsys, *options)
    assert code == 0, err
    assert found["summary"] == due["summary"] and found["config"] == due["config"]
    assert any(prefix in note and "taken off" in note for note in found["notes"])


@pytest.mark.parametrize("kind", NETWORKS)
def test_one_network_of_a_lightning_checkpoint(tmp_path, capsys, kind):
    """Several networks in one state dict: the averaged one is taken, the others are counted."""
    module, options, make, _ = NETWORKS[kind]
    tensors = {name: np.array(array, order="C") for name, array in make().items()}
    other = {name: np.asarray(array + 1) for name, array in tensors.items()}
    state = {f"generator.{n}": a for n, a in other.items()} | {f"generator_ema.{n}": a for n, a in tensors.items()} | {
        "discriminator.a.weight": np.ones(3, np.float32), "discriminator.b.weight": np.ones(3, np.float32)}
    path = files.torch_zip(tmp_path / "last.ckpt", {"state_dict": state, "epoch": 3, "global_step": 9, "callbacks": {},
                                                    "hyper_parameters": files.Call(
        "pytorch_lightning.utilities.parsing.AttributeDict", (), None, {"lr": 0.1})})
    code, found, err = run(module, path, capsys, *options)
    assert code == 0, err
    count = len(other) + 2
    assert any("'state_dict.generator_ema.'" in note and f"{count} other arrays" in note for note in found["notes"]), \
        (count, found["notes"])
    checkpoint = under_prefix(read(path), module.recognise)
    assert checkpoint.prefix == "state_dict.generator_ema." and set(checkpoint.tree) == set(tensors)
    text_code = module.main([str(path), "--dry-run", *options])
    assert text_code == 0 and "all names begin with 'state_dict.generator_ema.'" in capsys.readouterr().out


def test_a_file_of_another_kind_stays_refused(tmp_path, capsys):
    path = files.torch_zip(tmp_path / "a.pt", {"x.y.z": np.ones(3), "x.y.w": np.ones(3), "loss": {"x.y": np.ones(2)}})
    assert [part.prefix for part in parts(read(path))]
    for module in (vgg, regressor, rignet, landmarks, stylegan):
        code, _, err = run(module, path, capsys)
        assert code == 4 and "a.pt" in err and err.count("\n") == 1


# --------------------------------------------------------------- B19: torch.save(G) converts like its pickle
@pytest.mark.parametrize("write", [files.torch_zip, files.torch_legacy])
def test_a_generator_saved_whole_converts_as_its_pickle_does(tmp_path, write):
    import argparse

    import jax

    tensors = nvidia2(8)
    network = nvidia2_module(tensors, clamp=2.0)
    files.persistence(tmp_path / "a.pkl", {"G_ema": network})
    due = stylegan.convert(read(tmp_path / "a.pkl"), argparse.Namespace())
    found = stylegan.convert(read(write(tmp_path / "model_PTI.pt", network)), argparse.Namespace())
    assert found.config == due.config
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, found.weights, due.weights)))


# ------------------------------------------------------------------------- B21, B22: folders of downloads
def shards(folder, tensors):
    names = list(tensors)
    half = {"m-1-of-2.safetensors": names[::2], "m-2-of-2.safetensors": names[1::2]}
    made = {file: {n: np.array(tensors[n], np.float32, order="C") for n in some} for file, some in half.items()}
    for file, arrays in made.items():
        files.safetensors(folder / file, arrays)
    return files.safetensors_index(folder / "m.safetensors.index.json", made)


def test_shards_with_their_index_convert(tmp_path, capsys):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    index = shards(downloads, torchvision(layers()))
    code, found, _ = run(vgg, index, capsys)
    assert code == 0 and found["format"] == "safetensors-index"
    assert convert_all([str(downloads), "--pack", str(tmp_path / "pack"), "--json"]) == 0
    rows = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["m.safetensors.index.json"]["status"] == "converted"
    assert {rows[f"m-{i}-of-2.safetensors"]["text"] for i in (1, 2)} == {"left: a part of m.safetensors.index.json"}
    assert set(load_pack(tmp_path / "pack").weights) == {"perceptual"}


def test_an_unsupported_generator_does_not_stand_in_the_way(tmp_path, capsys):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    conditional = nvidia2(8) | {"mapping.embed.weight": np.ones((4, 3), np.float32)}
    files.persistence(downloads / "a_conditional.pkl", {"G_ema": nvidia2_module(conditional)})
    files.persistence(downloads / "b_usable.pkl", {"G_ema": nvidia2_module(nvidia2(8))})
    files.persistence(downloads / "c_stylegan3.pkl", {"G_ema": nvidia2_module(
        nvidia2(8) | {"synthesis.input.freqs": np.ones(3, np.float32)})})
    files.torch_zip(downloads / "vgg.pth", torchvision(layers()))
    assert convert_all([str(downloads), "--pack", str(tmp_path / "pack"), "--json"]) == 1
    rows = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["b_usable.pkl"]["status"] == rows["vgg.pth"]["status"] == "converted"
    assert rows["a_conditional.pkl"]["status"] == rows["c_stylegan3.pkl"]["status"] == "failed"
    assert "class-conditional" in rows["a_conditional.pkl"]["text"] and "StyleGAN3" in rows["c_stylegan3.pkl"]["text"]
    assert {"generator", "perceptual"} <= set(read_manifest(tmp_path / "pack")["parts"])


def test_two_usable_ones_are_left_and_the_exit_code_says_so(tmp_path, capsys):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for name in ("a.pkl", "b.pkl"):
        files.persistence(downloads / name, {"G_ema": nvidia2_module(nvidia2(8))})
    files.torch_zip(downloads / "vgg.pth", torchvision(layers()))
    assert convert_all([str(downloads), "--pack", str(tmp_path / "pack")]) == 1
    out = capsys.readouterr().out
    assert "b.pkl is the part generator too" in out and "python -m converters.stylegan" in out
    assert set(read_manifest(tmp_path / "pack")["parts"]) == {"perceptual"}


def test_a_prefix_in_a_folder(tmp_path, capsys):
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    state = {f"generator.{n}": np.array(a, order="C") for n, a in rosinality2(nvidia2(8), 8).items()}
    state |= {f"loss.vgg.{n}": a for n, a in torchvision(layers()).items()}
    files.torch_zip(downloads / "last.ckpt", {"state_dict": state})
    assert convert_all([str(downloads), "--pack", str(tmp_path / "pack")]) == 0
    out = capsys.readouterr().out
    assert "-> generator" in out and "'state_dict.generator.', which is taken off" in out


# -------------------------------------------------------------------------------- B23: references of any size
@pytest.mark.parametrize("side", [64, 96, 224])
def test_a_reference_of_vgg_may_have_any_size(tmp_path, capsys, side):
    found = layers()
    path = files.torch_zip(tmp_path / "vgg.pth", torchvision(found))
    photos, config = images(side, count=1), VGGConfig()
    due = reference(found, photos, config.mean_rgb, np.asarray(config.std_rgb))
    np.savez(tmp_path / "reference.npz", images_01=photos, **{
        name: due[name].transpose(0, 2, 3, 1) for name in ("conv1_2", "conv4_2")})
    code, facts, err = run(vgg, path, capsys, "--check", str(tmp_path / "reference.npz"))
    assert code == 0, err
    assert set(facts["check"]) == {"conv1_2", "conv4_2"} and max(facts["check"].values()) < 1e-4
    np.savez(tmp_path / "reference.npz", images_01=photos[:, :-1], conv1_2=due["conv1_2"])
    code, _, err = run(vgg, path, capsys, "--check", str(tmp_path / "reference.npz"))
    assert code == 4 and "expected [B, R, R, 3]" in err


def test_a_reference_of_vgg_face_may_have_layers_of_both_kinds(tmp_path, capsys):
    found = layers()
    path = face_file(tmp_path, "dag", found)
    photos = images(32 * SIDE, count=1)
    due = reference(found, photos, vgg.FACE_MEAN_RGB, 1.0)
    np.savez(tmp_path / "reference.npz", images_01=photos, fc7=due["fc7"],
             conv3_2=due["conv3_2"].transpose(0, 2, 3, 1))
    code, facts, err = run(vgg, path, capsys, "--check", str(tmp_path / "reference.npz"))
    assert code == 0 and set(facts["check"]) == {"fc7", "conv3_2"} and max(facts["check"].values()) < 1e-4, err


# ------------------------------------------------------------------------------------------------------ B26
def test_the_readme_says_that_benchmarks_need_the_checkout():
    from benchmarks.reliability.fuzz import ROOT

    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if "python -m benchmarks" in line)
    assert "checkout" in line
    assert "benchmarks" not in (ROOT / "pyproject.toml").read_text().split("packages.find]")[1].split("[")[1]
