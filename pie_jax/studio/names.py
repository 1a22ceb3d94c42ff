"""The names of all that a scene has, without JAX: commands check them before anything heavy is imported."""

from pie_jax.studio.expressions import EXPRESSION_NAMES, FULL
from pie_jax.studio.hair import STYLE_NAMES as HAIR_STYLES
from pie_jax.studio.identity import IDENTITY_NAMES
from pie_jax.studio.parts import SEGMENTS
from pie_jax.studio.texture import TEXTURE_NAMES

__all__ = ["EXPRESSION_NAMES", "FULL", "HAIR_STYLES", "IDENTITY_NAMES", "SEGMENTS", "TEXTURE_NAMES"]
