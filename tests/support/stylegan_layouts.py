"""Random generators at toy sizes in every public layout: the same arrays under each owner's names and axes."""

import math

import checkpoint_files as files
import numpy as np
from slow_stylegan import BINOMIAL, FIR

W = 6  # of z and w


def nvidia2(resolution, *, synthesis="skip", width=8):
    """A random state dict of stylegan2-ada-pytorch."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    t = {"mapping.w_avg": normal(W)}
    for i in range(2):
        t |= {f"mapping.fc{i}.weight": 100 * normal(W, W), f"mapping.fc{i}.bias": 20 * normal(W)}
    n = 4
    channels = {size: min(4 * width * 4 // size, width) for size in (4, 8, 16, 32)}
    while n <= resolution:
        block, here, before = f"synthesis.b{n}", channels[n], channels.get(n // 2)
        if n == 4:
            t[f"{block}.const"] = normal(here, 4, 4)
        for layer, inputs in (("conv0", before), ("conv1", here)):
            if inputs is not None:
                t |= {f"{block}.{layer}.weight": normal(here, inputs, 3, 3), f"{block}.{layer}.bias": normal(here),
                      f"{block}.{layer}.noise_strength": normal()[()].reshape(()),
                      f"{block}.{layer}.noise_const": normal(n, n),
                      f"{block}.{layer}.affine.weight": normal(inputs, W),
                      f"{block}.{layer}.affine.bias": normal(inputs)}
        if synthesis == "skip" or n == resolution:
            t |= {f"{block}.torgb.weight": normal(3, here, 1, 1), f"{block}.torgb.bias": normal(3),
                  f"{block}.torgb.affine.weight": normal(here, W), f"{block}.torgb.affine.bias": normal(here)}
        if synthesis == "resnet" and n > 4:
            t[f"{block}.skip.weight"] = normal(here, before, 1, 1)
        n *= 2
    return {name: np.asarray(array, np.float32) for name, array in t.items()}


def nvidia2_module(t, *, clamp=None, half_from=64):
    """The same arrays as modules under NVIDIA's persistence."""
    def tree(prefix, name):
        own = {key.removeprefix(prefix): a for key, a in t.items() if key.startswith(prefix)}
        parameters = {k: a for k, a in own.items() if "." not in k and k not in ("noise_const", "w_avg")}
        buffers = {k: a for k, a in own.items() if k in ("noise_const", "w_avg")}
        modules = {k: tree(f"{prefix}{k}.", k) for k in dict.fromkeys(k.partition(".")[0] for k in own if "." in k)}
        attributes = {}
        if name in ("conv0", "conv1", "torgb"):
            attributes["conv_clamp"] = clamp
        if name in ("conv0", "conv1"):
            attributes |= {"activation": "lrelu", "act_gain": np.sqrt(2)}
            buffers["resample_filter"] = FIR.astype(np.float32)
        if name.startswith("fc"):
            attributes |= {"activation": "lrelu", "bias_gain": 0.01, "weight_gain": np.float64(0.01 / math.sqrt(W))}
        if name == "skip":
            attributes["conv_clamp"] = None
        if name == "synthesis":
            attributes |= {"img_channels": 3, "w_dim": W}
        if name[:1] == "b" and name[1:].isdigit():
            attributes |= {"use_fp16": int(name[1:]) >= half_from, "architecture": "skip"}
        return files.module(name or "Generator", parameters=parameters, buffers=buffers, modules=modules, **attributes)

    return tree("", "")


def rosinality2(t, resolution):
    """The same arrays under rosinality/stylegan2-pytorch's names."""
    r = {"input.input": t["synthesis.b4.const"][None]}
    for i in range(2):
        r |= {f"style.{i + 1}.{part}": t[f"mapping.fc{i}.{part}"] for part in ("weight", "bias")}
    n, index = 4, 0
    while n <= resolution:
        k = int(math.log2(n))
        names = {"conv1": "conv1", "torgb": "to_rgb1"} if n == 4 else {
            "conv0": f"convs.{2 * k - 6}", "conv1": f"convs.{2 * k - 5}", "torgb": f"to_rgbs.{k - 3}"}
        for layer, name in names.items():
            source = f"synthesis.b{n}.{layer}"
            r |= {f"{name}.conv.weight": t[f"{source}.weight"][None],
                  f"{name}.conv.modulation.weight": t[f"{source}.affine.weight"],
                  f"{name}.conv.modulation.bias": t[f"{source}.affine.bias"]}
            if layer == "torgb":
                r[f"{name}.bias"] = t[f"{source}.bias"].reshape(1, 3, 1, 1)
                continue
            r |= {f"{name}.noise.weight": t[f"{source}.noise_strength"].reshape(1),
                  f"{name}.activate.bias": t[f"{source}.bias"],
                  f"noises.noise_{index}": t[f"{source}.noise_const"][None, None]}
            index += 1
            if layer == "conv0":
                r[f"{name}.conv.blur.kernel"] = (4 * FIR).astype(np.float32)
        if n > 4:
            r[f"to_rgbs.{k - 3}.upsample.kernel"] = (4 * FIR).astype(np.float32)
        n *= 2
    return r


def tensorflow2(t, resolution, **settings):
    """The same arrays in NVIDIA's TensorFlow network; it turns Conv0_up's kernel before it uses it."""
    mapping = {f"Dense{i}/{part}": t[f"mapping.fc{i}.{part}"].T for i in range(2) for part in ("weight", "bias")}
    synthesis = {"4x4/Const/const": t["synthesis.b4.const"][None]}
    n, index = 4, 0
    while n <= resolution:
        names = {"conv1": "Conv"} if n == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        for layer, name in (names | {"torgb": "ToRGB", "skip": "Skip"}).items():
            source, target = f"synthesis.b{n}.{layer}", f"{n}x{n}/{name}"
            if f"{source}.weight" not in t:
                continue
            weight = t[f"{source}.weight"].transpose(2, 3, 1, 0)
            synthesis[f"{target}/weight"] = weight[::-1, ::-1] if layer == "conv0" else weight
            if layer == "skip":
                continue
            synthesis |= {f"{target}/bias": t[f"{source}.bias"], f"{target}/mod_weight": t[f"{source}.affine.weight"].T,
                          f"{target}/mod_bias": t[f"{source}.affine.bias"] - np.float32(1)}
            if layer != "torgb":
                synthesis |= {f"{target}/noise_strength": np.float32(t[f"{source}.noise_strength"]),
                              f"noise{index}": t[f"{source}.noise_const"][None, None]}
                index += 1
        n *= 2
    parts = {"mapping": files.tf_network(mapping), "synthesis": files.tf_network(synthesis)}
    kwargs = {"resolution": resolution, "num_channels": 3, "resample_kernel": [1, 3, 3, 1]} | settings
    return files.tf_network({"lod": np.float32(0), "dlatent_avg": t["mapping.w_avg"]}, components=parts,
                            static_kwargs=kwargs)


def nvidia1(resolution, *, width=4):
    """Random variables of NVIDIA's TensorFlow StyleGAN: (mapping, synthesis)."""
    rng = np.random.default_rng(3)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    mapping = {}
    for i in range(2):
        mapping |= {f"Dense{i}/weight": 100 * normal(W, W), f"Dense{i}/bias": 20 * normal(W)}
    sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
    t = {"lod": np.float32(0), "4x4/Const/const": normal(1, width, 4, 4)}
    for k, n in enumerate(sizes):
        for place, name in enumerate(("Const", "Conv") if n == 4 else ("Conv0_up", "Conv1")):
            layer = f"{n}x{n}/{name}"
            if name != "Const":
                t[f"{layer}/weight"] = normal(3, 3, width, width)
            t |= {f"{layer}/bias": normal(width), f"{layer}/Noise/weight": normal(width),
                  f"noise{2 * k + place}": normal(1, 1, n, n), f"{layer}/StyleMod/weight": normal(W, 2 * width),
                  f"{layer}/StyleMod/bias": normal(2 * width)}
        lod = len(sizes) - 1 - k
        t |= {f"ToRGB_lod{lod}/weight": normal(1, 1, width, 3), f"ToRGB_lod{lod}/bias": normal(3)}
    return mapping, t


def genforce1(mapping, t, resolution, mean):
    """The same variables in genforce's state dict: fused layers keep TensorFlow's axes."""
    g = {"truncation.w_avg": mean, "synthesis.lod": np.zeros((), np.float32)}
    for i in range(2):
        g |= {f"mapping.dense{i}.linear.weight": mapping[f"Dense{i}/weight"].T,
              f"mapping.dense{i}.wscale.bias": mapping[f"Dense{i}/bias"]}
    levels = int(math.log2(resolution)) - 1
    for index in range(2 * levels):
        n = 4 * 2**(index // 2)
        name = (("Const", "Conv") if n == 4 else ("Conv0_up", "Conv1"))[index % 2]
        layer, out = f"{n}x{n}/{name}", f"synthesis.layer{index}"
        if name == "Const":
            g[f"{out}.first_layer"] = t["4x4/Const/const"]
        elif name == "Conv0_up" and n >= 128:
            g[f"{out}.weight"] = t[f"{layer}/weight"]
        else:
            g[f"{out}.conv.weight"] = t[f"{layer}/weight"].transpose(3, 2, 0, 1)
        if name == "Conv0_up":
            g[f"{out}.blur.kernel"] = np.tile(BINOMIAL.astype(np.float32), (t[f"{layer}/bias"].size, 1, 1, 1))
        end = f"{out}.epilogue"
        g |= {f"{end}.bias": t[f"{layer}/bias"], f"{end}.apply_noise.weight": t[f"{layer}/Noise/weight"],
              f"{end}.apply_noise.noise": t[f"noise{index}"],
              f"{end}.style_mod.dense.linear.weight": t[f"{layer}/StyleMod/weight"].T,
              f"{end}.style_mod.dense.wscale.bias": t[f"{layer}/StyleMod/bias"]}
    for j in range(levels):
        g |= {f"synthesis.output{j}.conv.weight": t[f"ToRGB_lod{levels - 1 - j}/weight"].transpose(3, 2, 0, 1),
              f"synthesis.output{j}.bias": t[f"ToRGB_lod{levels - 1 - j}/bias"]}
    return g


def lernapparat1(mapping, t, resolution):
    """The same variables in lernapparat's state dict: no noise maps, no mean, one image layer."""
    s = {f"g_mapping.dense{i}.{part}": mapping[f"Dense{i}/{part}"].T for i in range(2) for part in ("weight", "bias")}
    for index in range(2 * int(math.log2(resolution)) - 2):
        n = 4 * 2**(index // 2)
        name = (("Const", "Conv") if n == 4 else ("Conv0_up", "Conv1"))[index % 2]
        block, layer = f"g_synthesis.blocks.{n}x{n}", f"{n}x{n}/{name}"
        if name == "Const":
            s |= {f"{block}.const": t["4x4/Const/const"], f"{block}.bias": t[f"{layer}/bias"]}
        else:
            own = f"{block}.{name.lower()}"
            s |= {f"{own}.weight": t[f"{layer}/weight"].transpose(3, 2, 0, 1), f"{own}.bias": t[f"{layer}/bias"]}
        if name == "Conv0_up":
            s[f"{block}.conv0_up.intermediate.kernel"] = BINOMIAL.astype(np.float32)[None, None]
        end = f"{block}.epi{index % 2 + 1}"
        s |= {f"{end}.top_epi.noise.weight": t[f"{layer}/Noise/weight"],
              f"{end}.style_mod.lin.weight": t[f"{layer}/StyleMod/weight"].T,
              f"{end}.style_mod.lin.bias": t[f"{layer}/StyleMod/bias"]}
    return s | {"g_synthesis.torgb.weight": t["ToRGB_lod0/weight"].transpose(3, 2, 0, 1),
                "g_synthesis.torgb.bias": t["ToRGB_lod0/bias"]}


def rosinality1(blocks, *, trained, fused_from, width=4):
    """A random state dict of style-based-gan-pytorch."""
    rng = np.random.default_rng(5)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    r = {}
    for i in (1, 3):
        r |= {f"style.{i}.linear.weight_orig": normal(W, W), f"style.{i}.linear.bias": normal(W)}
    blur = np.tile(BINOMIAL.astype(np.float32), (width, 1, 1, 1))
    for i in range(blocks):
        p, learnt = f"generator.progression.{i}", 4 * 2**i <= trained
        if i == 0:
            r[f"{p}.conv1.input"] = normal(1, width, 4, 4)
        elif 4 * 2**i >= fused_from:
            r |= {f"{p}.conv1.0.weight": normal(width, width, 3, 3), f"{p}.conv1.0.bias": normal(width),
                  f"{p}.conv1.1.weight": blur, f"{p}.conv1.1.weight_flip": blur}
        else:
            r |= {f"{p}.conv1.1.conv.weight_orig": normal(width, width, 3, 3), f"{p}.conv1.1.conv.bias": normal(width),
                  f"{p}.conv1.2.weight": blur, f"{p}.conv1.2.weight_flip": blur}
        r |= {f"{p}.conv2.conv.weight_orig": normal(width, width, 3, 3),
              f"{p}.conv2.conv.bias": normal(width) * np.float32(learnt)}
        for j in (1, 2):
            r |= {f"{p}.noise{j}.weight_orig": normal(1, width, 1, 1),
                  f"{p}.adain{j}.style.linear.weight_orig": normal(2 * width, W),
                  f"{p}.adain{j}.style.linear.bias": normal(2 * width)}
        r |= {f"generator.to_rgb.{i}.conv.weight_orig": normal(3, width, 1, 1),
              f"generator.to_rgb.{i}.conv.bias": normal(3)}
    return r
