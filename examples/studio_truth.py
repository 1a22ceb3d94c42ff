"""A made person, the same person turned, and how far the pixels moved: `python examples/studio_truth.py [OUT]`."""

import pathlib
import sys

import numpy as np

import pie_jax.runtime
from pie_jax.io import save_png
from pie_jax.studio.drawing import render_scenes
from pie_jax.studio.head import build_head
from pie_jax.studio.scene import posed, scenes_of_seeds


def main(out: str = "out") -> None:
    pie_jax.runtime.configure()
    head = build_head()
    scene = scenes_of_seeds([7], head=head)
    rotation = np.array(scene.params.rotation)  # [1, 3]: pitch, yaw, roll in radians
    rotation[:, 1] = np.radians(-15)
    turned = posed(head, scene, rotation)
    before, after = (np.asarray(render_scenes(head, s, resolution=128).images[0]) for s in (scene, turned))
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    save_png(pathlib.Path(out) / "studio.png", np.concatenate([before, after], axis=1))
    print(f"mean change {np.abs(after - before).mean():.3f} of 1; see {out}/studio.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
