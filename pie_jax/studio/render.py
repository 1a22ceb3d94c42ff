"""Portraits of people who never existed, with their truth: `python -m pie_jax.studio.render --seed S --count N -o DIR`."""

from __future__ import annotations


def __getattr__(name):
    # The command answers before JAX is imported; who imports the renderer from here gets it then.
    if name in ("render_scenes", "SceneRendering"):
        from pie_jax.studio import drawing

        return getattr(drawing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
