"""Packs of real sizes with random weights, for timing where real weights are not public: 256 px and FFHQ's 1024 px."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.raster import grid_head
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
from pie_jax.pack.parts import PARTS, is_network

SIZES = (256, 1024)
_UNIT = ("scale", "var", "output_std")


def configs_of_size(resolution: int) -> PackConfigs:
    """The public networks around StyleGAN2: config-f at 1024 px; half its channels at 256 px.

    ValueError: another resolution.
    """
    if resolution not in SIZES:
        raise ValueError(f"resolution: expected one of {SIZES}, got {resolution}")
    channels = {"channel_base": 32768} if resolution == 1024 else {"channel_base": 8192, "channel_max": 256}
    generator = GeneratorConfig(resolution=resolution, **channels)
    layers = generator.num_layers
    return PackConfigs(
        generator=generator, regressor=RegressorConfig(), landmarks=LandmarkConfig(stacks=1, width=16, depth=1),
        perceptual=VGGConfig(), recognition=VGGConfig(
            layers=(), resolution=224, fc_width=4096, mean_rgb=(129.186, 104.762, 93.594), std_rgb=(1.0, 1.0, 1.0)),
        rignets=tuple(RigNetConfig(control=control, num_layers=layers) for control in sorted(CONTROLS)),
        dfr=DFRConfig(num_layers=layers), camera=CameraConfig(crop_x=0.1, crop_y=0.15, crop_size=0.8),
        energy=EnergyConfig(render_resolution=224, control_sampling="one", weight_landmark=1e-4))


def random_pack(configs: PackConfigs, *, seed: int = 0, pool: int = 16, head: MorphableModel | None = None) -> Pack:
    """Kernels that keep the variance, unit scales, styles about 1; the head by default a grid of 35 712 vertices."""
    rng = np.random.default_rng(seed)
    weights = {part: _random(rng, schema(part, configs), equalised=part == "generator")
               for part in PARTS if is_network(part) and configs.of(part) is not None}
    sizes = np.full(257, 0.3, np.float32)
    sizes[224:227], sizes[227:254], sizes[254:] = 0.15, 0.1, 0.05
    for part in ("regressor", "dfr"):  # the face stays before the camera
        weights[part] |= {"output_std": jnp.asarray(sizes), "output_mean": jnp.zeros(257)}
    side = configs.energy.render_resolution
    rows = Pool(images=jnp.asarray(rng.integers(0, 256, (pool, side, side, 3)), jnp.uint8),
                params_vector=jnp.asarray(sizes * rng.normal(size=(pool, 257)), jnp.float32),
                landmarks=jnp.asarray(rng.uniform(0.2, 0.8, (pool, 66, 2)), jnp.float32))
    return Pack(weights=weights, configs=configs, morphable=head or grid_head(), pool=rows,
                manifest=Manifest(name=f"random-{configs.generator.resolution}", parts={}))


def _random(rng, tree, *, equalised: bool):
    def leaf(path, shape):
        name, inside = path[-1].key, [step.key for step in path]
        if name in _UNIT:  # a residual branch adds little, or 16 of them would make the answer 250 times as large
            return jnp.full(shape.shape, 0.2 if name == "scale" and "bn3" in inside else 1.0)
        noise = rng.standard_normal(shape.shape, np.float32)
        if equalised and name == "weight":
            return jnp.asarray(noise)
        if equalised and name == "bias" and "affine" in inside:
            return jnp.asarray(1 + np.float32(0.1) * noise)
        if len(shape.shape) < 2:
            return jnp.asarray(np.float32(0.1) * noise)
        return jnp.asarray(np.float32(math.sqrt(2.0 / np.prod(shape.shape[:-1]))) * noise)

    return jax.tree_util.tree_map_with_path(leaf, tree)
