"""RigNet and DFR by loops over style layers, the identity start, and what the rig is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, run

from pie_jax.config import CONTROLS, DFRConfig, RigNetConfig
from pie_jax.face3d.morphable import VECTOR_SLICES, FaceParams, control_vector
from pie_jax.nn.rignet import DFR, RigNet, rig_input

LAYERS, DIM = 4, 6


def faces(seed):
    return FaceParams.from_vector(np.random.default_rng(seed).normal(size=(2, 257)).astype(np.float32))


@pytest.fixture
def w_plus():
    return np.random.default_rng(0).normal(size=(2, LAYERS, DIM)).astype(np.float32)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


ACTIVATIONS = {"none": lambda x: x, "elu": elu, "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_rignet_layer_by_layer(w_plus, activation, hidden_layers):
    config = RigNetConfig(num_layers=LAYERS, w_dim=DIM, width=3, activation=activation, hidden_layers=hidden_layers,
                          hidden_width=5)
    told = rig_input(config, faces(1), faces(2))
    shapes = jax.eval_shape(RigNet(config).init, jax.random.key(0), w_plus, told)["params"]
    rng = np.random.default_rng(3)
    weights = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)
    act = ACTIVATIONS[activation]
    got = jax.jit(lambda *x: RigNet(config).apply({"params": x[0]}, *x[1:]))(weights, w_plus, told)
    for layer in range(LAYERS):
        x = act(w_plus[:, layer] @ weights["encoder_kernel"][layer] + weights["encoder_bias"][layer])
        x = np.concatenate([x, told], axis=1)
        for i in range(hidden_layers):
            x = act(x @ weights[f"hidden{i}_kernel"][layer] + weights[f"hidden{i}_bias"][layer])
        x = w_plus[:, layer] + x @ weights["decoder_kernel"][layer] + weights["decoder_bias"][layer]
        np.testing.assert_allclose(got[:, layer], x, rtol=1e-4, atol=1e-4)


def test_rignet_starts_at_the_identity_and_learns(w_plus):
    config = RigNetConfig(num_layers=LAYERS, w_dim=DIM, width=3)
    told = rig_input(config, faces(1), faces(2))
    network = RigNet(config)
    weights = network.init(jax.random.key(0), w_plus, told)["params"]
    apply = jax.jit(lambda weights, w, told: network.apply({"params": weights}, w, told))
    assert np.abs(apply(weights, w_plus, told) - w_plus).max() < 0.02
    gradient = jax.grad(lambda weights: jnp.sum(jnp.square(apply(weights, w_plus, told) - 1.0)))(weights)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    one_by_one = jax.vmap(lambda w, t: network.apply({"params": weights}, w[None], t[None])[0])(w_plus, told)
    np.testing.assert_allclose(one_by_one, apply(weights, w_plus, told), atol=1e-5)
    apply(weights, w_plus + 1.0, told)
    assert apply._cache_size() == 1
    with pytest.raises(ValueError, match="w_plus"):
        network.apply({"params": weights}, w_plus[:, 1:], told)


@pytest.mark.parametrize("control", CONTROLS)
def test_rig_input(control):
    source, target = faces(1), faces(2)
    ask = {name: rig_input(RigNetConfig(control=control, input=name), source, target)
           for name in ("slice", "difference", "all")}
    np.testing.assert_array_equal(ask["slice"], control_vector(target, control))
    np.testing.assert_array_equal(ask["difference"], control_vector(target, control) - control_vector(source, control))
    part = VECTOR_SLICES[{"pose": "rotation"}.get(control, control)]
    expected = np.asarray(source.to_vector()).copy()
    expected[:, part] = target.to_vector()[:, part]
    np.testing.assert_array_equal(ask["all"], expected)


@pytest.mark.parametrize("residual", [False, True])
def test_dfr_by_hand(w_plus, residual):
    config = DFRConfig(num_layers=LAYERS, w_dim=DIM, hidden=(5, 7), residual=residual)
    shapes = jax.eval_shape(DFR(config).init, jax.random.key(0), w_plus)["params"]
    rng = np.random.default_rng(4)
    weights = jax.tree.map(lambda a: 0.3 * rng.normal(size=a.shape).astype(np.float32), shapes)
    flat = w_plus.reshape(2, -1)
    x = flat
    for i in range(3):
        x = x @ weights[f"fc{i}"]["kernel"] + weights[f"fc{i}"]["bias"]
        x = elu(x) if i < 2 else x
    x = x + flat @ weights["residual"]["kernel"] if residual else x
    expected = x * weights["output_std"] + weights["output_mean"]
    np.testing.assert_allclose(run(weights, w_plus, module=DFR(config)), expected, rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda w: jnp.sum(jnp.square(DFR(config).apply({"params": w}, w_plus)))))(weights)
    assert not np.any(gradient["output_std"]) and not np.any(gradient["output_mean"])
    assert np.any(gradient["fc0"]["bias"])


def test_real_sizes():
    """StyleRig: 18 x (512 -> 32) and 18 x (32 + P -> 512); DFR 9216 -> 1024 -> 1024 -> 257."""
    w_plus = jax.ShapeDtypeStruct((1, 18, 512), jnp.float32)
    told = jax.ShapeDtypeStruct((1, 257), jnp.float32)
    rig = jax.eval_shape(RigNet(RigNetConfig()).init, jax.random.key(0), w_plus, told)["params"]
    assert count(rig) == 18 * (512 * 32 + 32 + (32 + 257) * 512 + 512)
    dfr = jax.eval_shape(DFR(DFRConfig()).init, jax.random.key(0), w_plus)["params"]
    expected = 9216 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 257 + 257
    assert count(dfr, without=("output_mean", "output_std")) == expected
