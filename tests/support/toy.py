"""A pack of every part at toy sizes with random weights: made and compiled in seconds, for tests of any module.

The face is half of a bumpy ellipsoid; the networks have a few channels. Nothing in it looks like anything, but every
part has its real structure, and all gradients exist.
"""

import dataclasses
from functools import partial

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
from pie_jax.face3d.morphable import MorphableModel
from pie_jax.pack import Manifest, Pack, PackConfigs, Pool, schema
from pie_jax.pack.inference import synthesise

RESOLUTION, W_DIM = 32, 16
GENERATOR = GeneratorConfig(resolution=RESOLUTION, z_dim=W_DIM, w_dim=W_DIM, mapping_layers=2, channel_base=128,
                            channel_max=8)
LAYERS = GENERATOR.num_layers


def layers_for(generator: GeneratorConfig) -> dict:
    """The configs of a generator and of the rigs and DFR that fit it, as keyword arguments for PackConfigs."""
    sizes = {"num_layers": generator.num_layers, "w_dim": generator.w_dim}
    rignets = tuple(RigNetConfig(control=c, width=4, hidden_width=4, **sizes) for c in sorted(CONTROLS))
    return {"generator": generator, "rignets": rignets, "dfr": DFRConfig(hidden=(8, 8), **sizes)}


CONFIGS = PackConfigs(
    **layers_for(GENERATOR),
    regressor=RegressorConfig(stage_sizes=(1, 1), bottleneck=False, width=4, resolution=16),
    landmarks=LandmarkConfig(stacks=1, width=8, depth=1, resolution=32),
    perceptual=VGGConfig(width=4, resolution=32, layers=("conv1_2", "conv2_2")),
    recognition=VGGConfig(width=4, resolution=32, layers=(), fc_width=8, num_classes=4),
    camera=CameraConfig(crop_x=0.125, crop_y=0.125, crop_size=0.75),
    energy=EnergyConfig(render_resolution=16))
SMALLEST = dataclasses.replace(  # the same of fewer layers, where compiling is what takes time
    CONFIGS, **layers_for(dataclasses.replace(GENERATOR, resolution=8)),
    perceptual=VGGConfig(width=4, resolution=16, layers=("conv1_1",)))


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


def _seed(key) -> int:
    high, low = (int(word) for word in np.asarray(jax.random.key_data(key)).ravel()[:2])
    return high << 32 | low


def random_weights(key, tree, *, equalised: bool = False):
    """Arrays for a tree of shapes: variance-keeping kernels, small biases, unit scales and variances.

    equalised: the layers of a generator scale their kernels themselves, and their styles are 1 in the mean.

    By numpy: one compiled program for each shape would take a minute.
    """
    rng = np.random.default_rng(_seed(key))
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)

    def leaf(path, shape):
        name = path[-1].key
        if name in ("scale", "var", "variance", "output_std"):
            return np.ones(shape, np.float32)
        noise = rng.normal(size=shape).astype(np.float32)
        if equalised and name == "weight":
            return noise
        if equalised and name == "bias" and any(step.key == "affine" for step in path):
            return 1 + np.float32(0.1) * noise
        if len(shape) < 2 or name in ("bias", "mean", "output_mean", "noise_const"):
            return np.float32(0.1) * noise
        return np.float32(0.7 / np.sqrt(np.prod(shape[:-1]))) * noise

    return jax.device_put(structure.unflatten([leaf(path, s.shape) for path, s in leaves]))


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
            weights[name] = _tame(name, random_weights(
                jax.random.fold_in(key, i), schema(name, configs), equalised=name == "generator"))
    side = configs.energy.render_resolution
    rng = np.random.default_rng(_seed(key))
    pool = Pool(images=jnp.asarray(rng.integers(0, 256, (pool_size, side, side, 3)), jnp.uint8),
                params_vector=params_vector(key, (pool_size,)),
                landmarks=jnp.asarray(rng.uniform(size=(pool_size, 66, 2)), jnp.float32))
    return Pack(weights=weights, configs=configs, manifest=Manifest(name="toy", parts={}),
                morphable=toy_morphable() if parts is None or "morphable" in parts else None,
                pool=pool if parts is None or "pool" in parts else None)


def params_vector(key, leading: tuple[int, ...] = ()):
    """Plausible FaceParams vectors [*leading, 257]: small pose, unit coefficients, soft light."""
    return jnp.asarray(_sizes() * np.random.default_rng(_seed(key)).normal(size=(*leading, 257)), jnp.float32)


def _sizes() -> np.ndarray:
    size = np.full(257, 0.3, np.float32)
    size[224:227], size[227:254], size[254:] = 0.15, 0.1, 0.05
    return size


def _tame(name: str, weights):
    """Regressors of random weights must still put the face before the camera: scale their outputs down."""
    if name in ("regressor", "dfr") and "output_std" in weights:
        weights = {**weights, "output_std": jnp.asarray(_sizes()), "output_mean": jnp.zeros(257)}
    return weights


def portraits(key, count: int, *, pack: Pack):
    """[count, R, R, 3] in 0..1: synthesis of random codes, which therefore can be matched."""
    config = pack.configs.generator
    noise = np.random.default_rng(_seed(key)).normal(size=(count, 1, config.w_dim))
    w_plus = np.asarray(pack.weights["generator"]["w_mean"]) + np.repeat(noise, config.num_layers, axis=1)
    return _paint(pack.weights["generator"], jnp.asarray(w_plus, jnp.float32), config=config)


@partial(jax.jit, static_argnames="config")
def _paint(weights, w_plus, *, config):
    return jnp.clip(synthesise(config, weights, w_plus), 0.0, 1.0)
