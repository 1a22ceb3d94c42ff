"""A pack of every part at toy sizes with random weights: made and compiled in seconds, for tests of any module.

The face is half of a bumpy ellipsoid; the networks have a few channels. Nothing in it looks like anything, but every
part has its real structure, and all gradients exist.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.config import (
    CONTROLS,
    CameraConfig,
    DFRConfig,
    EnergyConfig,
    GeneratorConfig,
    LandmarkConfig,
    RegressorConfig,
    RigNetConfig,
    VGGConfig,
)
from pie_jax.morphable import MorphableModel
from pie_jax.pack import Manifest, Pack, PackConfigs, Pool, schema

RESOLUTION, W_DIM = 32, 16
GENERATOR = GeneratorConfig(resolution=RESOLUTION, z_dim=W_DIM, w_dim=W_DIM, mapping_layers=2, channel_base=128,
                            channel_max=8)
LAYERS = GENERATOR.num_layers
CONFIGS = PackConfigs(
    generator=GENERATOR,
    regressor=RegressorConfig(stage_sizes=(1, 1), bottleneck=False, width=4, resolution=16),
    landmarks=LandmarkConfig(stacks=1, width=8, depth=1, resolution=32),
    perceptual=VGGConfig(width=4, resolution=32, layers=("conv1_2", "conv2_2")),
    recognition=VGGConfig(width=4, resolution=32, layers=(), fc_width=8, num_classes=4),
    rignets=tuple(RigNetConfig(control=c, num_layers=LAYERS, w_dim=W_DIM, width=4, hidden_width=4)
                  for c in sorted(CONTROLS)),
    dfr=DFRConfig(num_layers=LAYERS, w_dim=W_DIM, hidden=(8, 8)),
    camera=CameraConfig(crop_x=0.125, crop_y=0.125, crop_size=0.75),
    energy=EnergyConfig(render_resolution=16))


def toy_morphable(seed: int = 0, *, rings: int = 9, spokes: int = 16) -> MorphableModel:
    """Half an ellipsoid of the size of a face, with smooth random bases; rings x spokes vertices."""
    rng = np.random.default_rng(seed)
    radius, angle = np.meshgrid(np.linspace(0.05, 1.0, rings), np.arange(spokes) * 2 * np.pi / spokes, indexing="ij")
    x, y = 0.7 * radius * np.cos(angle), 1.1 * radius * np.sin(angle)
    vertices = np.stack([x, y, 0.6 * np.sqrt(np.maximum(1 - radius**2, 0))], -1).reshape(-1, 3)
    index = np.arange(rings * spokes).reshape(rings, spokes)
    a, b = index[:-1], index[1:]
    c, d = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([c, b, d], -1).reshape(-1, 3)])
    waves = vertices @ rng.normal(size=(3, 24))
    smooth = np.concatenate([np.sin(waves), np.cos(waves)], -1)  # [V, 48]

    def basis(count, size):
        return size * np.einsum("vf,fcn->vcn", smooth, rng.normal(size=(48, 3, count))) / np.sqrt(48)

    arrays = dict(
        mean_shape=vertices, identity_basis=basis(80, 0.01), expression_basis=basis(64, 0.01),
        mean_albedo=0.5 + 0.1 * np.sin(smooth[:, :3] * 2), texture_basis=basis(80, 0.01))
    return MorphableModel(
        **{name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()},
        triangles=jnp.asarray(triangles, jnp.int32),
        landmark_vertices=jnp.asarray(rng.choice(rings * spokes, 66, replace=False), jnp.int32),
        expression_names=("jaw_open", "smile_left", "smile_right", *(f"expression_{k}" for k in range(3, 64))))


def random_weights(key, tree, *, scale: float = 0.7):
    """Arrays for a tree of shapes: variance-keeping kernels, small biases, unit scales and variances."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    keys = jax.random.split(key, len(leaves))

    def leaf(path, shape, k):
        name = path[-1].key
        if name in ("scale", "var", "variance", "output_std"):
            return jnp.ones(shape.shape)
        noise = jax.random.normal(k, shape.shape)
        if len(shape.shape) < 2 or name in ("bias", "mean", "output_mean", "noise_const"):
            return 0.1 * noise
        return scale * noise / np.sqrt(np.prod(shape.shape[:-1]))

    return structure.unflatten([leaf(p, s, k) for (p, s), k in zip(leaves, keys, strict=True)])


def toy_pack(key, *, parts: tuple[str, ...] | None = None, pool_size: int = 12, configs: PackConfigs = CONFIGS,
             energy: EnergyConfig | None = None) -> Pack:
    """A pack of all parts, or only of `parts`; `energy` replaces the defaults of the configs."""
    if energy is not None:
        configs = dataclasses.replace(configs, energy=energy)
    names = ["generator", "regressor", "landmarks", "perceptual", "recognition", "dfr"]
    names += [f"rignet_{config.control}" for config in configs.rignets]
    weights = {}
    for i, name in enumerate(names):
        if configs.of(name) is not None and (parts is None or name in parts):
            weights[name] = _tame(name, random_weights(jax.random.fold_in(key, i), schema(name, configs)))
    side = configs.energy.render_resolution
    keys = jax.random.split(jax.random.fold_in(key, 99), 3)
    pool = Pool(images=jax.random.randint(keys[0], (pool_size, side, side, 3), 0, 256).astype(jnp.uint8),
                theta=theta(keys[1], (pool_size,)), landmarks=jax.random.uniform(keys[2], (pool_size, 66, 2)))
    return Pack(weights=weights, configs=configs, manifest=Manifest(name="toy", parts={}),
                morphable=toy_morphable() if parts is None or "morphable" in parts else None,
                pool=pool if parts is None or "pool" in parts else None)


def theta(key, leading: tuple[int, ...] = ()):
    """Plausible FaceParams vectors [*leading, 257]: small pose, unit coefficients, soft light."""
    size = np.full(257, 0.3, np.float32)
    size[224:227], size[227:254], size[254:] = 0.15, 0.1, 0.05
    return jnp.asarray(size).reshape((1,) * len(leading) + (257,)) * jax.random.normal(key, (*leading, 257))


def _tame(name: str, weights):
    """Regressors of random weights must still put the face before the camera: scale their outputs down."""
    if name in ("regressor", "dfr") and "output_std" in weights:
        size = np.full(257, 0.3, np.float32)
        size[224:227], size[227:254], size[254:] = 0.15, 0.1, 0.05
        weights = {**weights, "output_std": jnp.asarray(size), "output_mean": jnp.zeros(257)}
    return weights


def portraits(key, count: int, *, pack: Pack):
    """[count, R, R, 3] in 0..1: synthesis of random codes, which therefore can be matched."""
    from pie_jax.layers import to_w_plus
    from pie_jax.observe import synthesise

    config = pack.configs.generator
    w = pack.weights["generator"]["w_mean"][None] + jax.random.normal(key, (count, config.w_dim))
    return jnp.clip(synthesise(config, pack.weights["generator"], to_w_plus(w, config.num_layers)), 0.0, 1.0)
