"""What the generator of a pack makes of held-out scenes of the demo family (`pie_jax.training.losses.response`)."""

from __future__ import annotations

import numpy as np

from pie_jax.pack import Pack
from pie_jax.pack.inference import map_z, synthesise

RENDERED = 128  # px, then averaged to the generator's resolution


def knows_the_family(pack: Pack) -> bool:
    """Whether the generator was trained on pairs of the family: only then does its z stand for a known scene."""
    record = pack.manifest.get("training", {}).get("generator", {})
    return "pairs" in record


def generator_response(pack: Pack, head) -> dict:
    """"response": factor -> {"cosine", "gain"} of G's change against the true render's, between both ends of a factor.

    Also "generator_psnr_db" and "generator_region_psnr_db" (eyes and mouth) of G against the true render of each z.
    """
    import jax
    import jax.numpy as jnp

    from pie_jax.training.data.family_data import RESPONSE_FACTORS, make_response, shrink
    from pie_jax.training.losses.response import response

    config = pack.configs.generator
    data = make_response(head, max(RENDERED, config.resolution))
    data |= {name: shrink(data[name], config.resolution) for name in ("images", "moved_images")}

    @jax.jit
    def paint(weights, z):
        w = map_z(config, weights, z)
        return jnp.clip(synthesise(config, weights, jnp.repeat(w[:, None], config.num_layers, axis=1)), 0.0, 1.0)

    found = response(lambda z: np.asarray(paint(pack.weights["generator"], z)), data, RESPONSE_FACTORS)
    factors = {name: {key: found[f"{name}_{key}"] for key in ("cosine", "gain")} for name in RESPONSE_FACTORS}
    return {"generator_psnr_db": found["psnr_db"], "generator_region_psnr_db": found["region_psnr_db"],
            "response": factors}
