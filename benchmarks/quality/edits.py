"""The edits that are measured, and the same edits done to the person instead of the picture."""

from __future__ import annotations

import dataclasses
import math

AMBIENT = 0.38  # of every scene of the demo family
INTENSITY = 0.65


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
    """One request: `asked` of `quantity`, and nothing else.

    quantity: "yaw", "pitch", "azimuth", "elevation" (degrees) or an expression component (standard deviations).
    """

    quantity: str
    asked: float

    @property
    def name(self) -> str:
        """As the columns of the table call it: yaw-15, azimuth+45, smile+2."""
        return f"{self.quantity}{self.asked:+g}"

    @property
    def control(self) -> str:
        """The control whose rig does it."""
        if self.quantity in ("yaw", "pitch"):
            return "pose"
        return "illumination" if self.quantity in ("azimuth", "elevation") else "expression"

    @property
    def request(self) -> dict:
        """Keyword arguments of `edit_portrait`."""
        if self.control == "pose":
            return {self.quantity: self.asked}
        if self.quantity == "azimuth":
            return {"light": (self.asked, 20.0, INTENSITY)}
        if self.quantity == "elevation":
            return {"light": (0.0, self.asked, INTENSITY)}
        return {"expression": {self.quantity: self.asked}}


EXPRESSIONS = ("jaw_open", "smile", "blink", "brow_raise", "pucker", "frown", "brow_furrow", "squint")
MOUTH = ("jaw_open", "smile")  # whose mouth region is measured too

EDITS = (
    *(Edit(quantity="yaw", asked=a) for a in (-20.0, -15.0, 0.0, 15.0, 20.0)),
    *(Edit(quantity="pitch", asked=a) for a in (-6.0, 0.0, 6.0)),
    *(Edit(quantity="azimuth", asked=a) for a in (-45.0, 0.0, 45.0)),
    *(Edit(quantity="elevation", asked=a) for a in (0.0, 40.0)),
    *(Edit(quantity=name, asked=a) for name in EXPRESSIONS for a in (0.0, 1.0, 2.0)),
)


def true_scene(head, scene, edit: Edit):
    """The scene [1] with that edit done to the person: what the edited portrait should show."""
    import jax.numpy as jnp

    from pie_jax.face3d.render import light
    from pie_jax.studio.names import EXPRESSION_NAMES
    from pie_jax.studio.scene import posed, with_params

    if edit.control == "pose":
        axis = ("pitch", "yaw").index(edit.quantity)
        return posed(head, scene, scene.params.rotation.at[:, axis].set(math.radians(edit.asked)))
    if edit.control == "illumination":
        return with_params(scene, illumination=light(*edit.request["light"], ambient=AMBIENT)[None])
    index = EXPRESSION_NAMES.index(edit.quantity)
    return with_params(scene, expression=scene.params.expression.at[:, index].set(jnp.float32(edit.asked)))


def obtained(vector, quantity: str, expression_names) -> float:
    """What a FaceParams vector [257] says of `quantity`, in the unit it was asked in."""
    import numpy as np

    from pie_jax.tuning import calibrate

    control = Edit(quantity=quantity, asked=0.0).control
    return float(calibrate.obtained(np.asarray(vector, np.float32)[None], quantity, control, expression_names)[0])
