"""The regressor against a slow residual network, its training form, and the size of ResNet-50."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, run
from slow_layers import correlate, pad

from pie_jax.config import RegressorConfig
from pie_jax.nn.regressor import Regressor, update_batch_stats

BUFFERS = ("mean", "var", "output_mean", "output_std")


def toy(config, *, size=16):
    shape = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(Regressor(config).init, jax.random.key(0), shape)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.uniform(-0.5, 0.9, size=a.shape).astype(np.float32) ** 2 + 0.1, shapes)


def normalise(layer, x):
    return (x - layer["mean"]) / np.sqrt(layer["var"] + 1e-5) * layer["scale"] + layer["bias"]


def slow(weights, x, config):
    x = np.maximum(normalise(weights["bn1"], correlate(pad(x, 3, 3), weights["conv1"]["kernel"], stride=2)), 0.0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    n = x.shape[1] // 2
    x = np.max([padded[:, i:i + 2 * n:2, j:j + 2 * n:2] for i in range(3) for j in range(3)], axis=0)
    for stage, blocks in enumerate(config.stage_sizes, start=1):
        for i in range(blocks):
            block = weights[f"layer{stage}_{i}"]
            stride = 2 if stage > 1 and i == 0 else 1
            y, last = x, 3 if config.bottleneck else 2
            for k in range(1, last + 1):
                kernel = block[f"conv{k}"]["kernel"]
                step = stride if k == (2 if config.bottleneck else 1) else 1
                margin = kernel.shape[0] // 2
                y = normalise(block[f"bn{k}"], correlate(pad(y, margin, margin), kernel, stride=step))
                y = y if k == last else np.maximum(y, 0.0)
            if "downsample_conv" in block:
                x = normalise(block["downsample_bn"], correlate(x, block["downsample_conv"]["kernel"], stride=stride))
            x = np.maximum(x + y, 0.0)
    x = x.mean(axis=(1, 2)) @ weights["head"]["kernel"] + weights["head"]["bias"]
    return x * weights["output_std"] + weights["output_mean"]


@pytest.mark.parametrize("bottleneck", [True, False])
def test_values_by_loops(bottleneck):
    config = RegressorConfig(stage_sizes=(1, 2), bottleneck=bottleneck, width=2, resolution=16)
    weights = toy(config)
    crops = np.random.default_rng(1).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    got = run(weights, crops, module=Regressor(config))
    expected = slow(weights, crops, config)
    assert got.shape == (2, 257)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_training_form_gradient_and_vmap():
    config = RegressorConfig(stage_sizes=(1, 1), bottleneck=False, width=4, resolution=16)
    network = Regressor(config)
    crops = np.random.default_rng(2).uniform(size=(4, 16, 16, 3)).astype(np.float32)
    weights = jax.jit(network.init)(jax.random.key(0), crops)["params"]

    @jax.jit
    def train(weights):
        params_vector, sown = network.apply({"params": weights}, crops, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(params_vector)), sown["batch_stats"]

    (_, batch_stats), gradient = jax.jit(jax.value_and_grad(train, has_aux=True))(weights)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.any(leaf) != (path[-1].key in BUFFERS), jax.tree_util.keystr(path)
    # statistics of one batch, taken whole: inference on it is the training form (up to the unbiased variance)
    settled = update_batch_stats(weights, batch_stats, momentum=0.0)
    assert jax.tree.structure(settled) == jax.tree.structure(weights)
    frozen = run(settled, crops, module=network)
    trained = jax.jit(lambda w: network.apply({"params": w}, crops, train=True, mutable=["batch_stats"])[0])(weights)
    assert np.sqrt(np.mean(np.square(frozen - trained))) < 0.1 * np.std(trained)
    one_by_one = jax.jit(jax.vmap(lambda x: network.apply({"params": settled}, x[None])[0]))(crops)
    np.testing.assert_allclose(one_by_one, frozen, atol=1e-4)


def test_published_size():
    """ResNet-50 without its classifier has 23 508 032; the head is 2048 x 257 + 257."""
    crops = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    weights = jax.eval_shape(Regressor(RegressorConfig()).init, jax.random.key(0), crops)["params"]
    assert count(weights, without=BUFFERS) == 23_508_032 + 2048 * 257 + 257
    assert weights["layer3_5"]["conv2"]["kernel"].shape == (3, 3, 256, 256)
