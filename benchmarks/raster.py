"""Milliseconds of the rasterizer and the renderer, forward and forward + gradient.

    python -m benchmarks.raster [--torch] [--out benchmarks/results/raster.jsonl] [--runs 25]

Rows: the demo's morphable head at 64 and 128 px, and a grid head of 35 712 vertices / 70 680 triangles (the size of
Deep3DFaceRecon's mesh, 35 709 / 70 789) at 224 px. `raster` is rasterize + interpolate three channels, gradient to
vertices and colours; `render` is FaceParams to image and landmarks, gradient to the FaceParams. `--torch` times the
vectorised z-buffer of `benchmarks.torch_reference` beside `raster_gradient`, alternately, on the same triangles:
`torch` in that row is its median and `ratio` that over ours. What the columns are is told in `benchmarks.harness`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from pie_jax import runtime
from pie_jax.cli import command
from pie_jax.config import CameraConfig
from pie_jax.face3d import raster, render
from pie_jax.face3d.morphable import FaceParams, MorphableModel
from pie_jax.studio.head import build_head


def grid_head(rows: int = 186, columns: int = 192) -> MorphableModel:
    """A closed grid of head size with a nose and made-up bases."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, columns, endpoint=False),
                                      np.linspace(0.05, np.pi - 0.05, rows))
    x, y = 0.71 * np.sin(latitude) * np.cos(longitude), 1.13 * np.cos(latitude)
    z = 0.86 * np.sin(latitude) * np.sin(longitude)
    z = z + 0.2 * np.exp(-((x / 0.15) ** 2 + (y / 0.3) ** 2)) * (z > 0)
    shape = np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1)
    triangles = np.concatenate([np.stack([index[:-1], right[:-1], index[1:]], -1).reshape(-1, 3),
                                np.stack([right[1:], index[1:], right[:-1]], -1).reshape(-1, 3)])
    waves = np.sin((np.arange(80) * 0.37 + 1)[None, None] * (1 + shape[:, :, None])).astype(np.float32)
    return MorphableModel(
        mean_shape=jnp.asarray(shape), identity_basis=jnp.asarray(0.003 * waves),
        expression_basis=jnp.asarray(0.003 * waves[..., :64]), mean_albedo=jnp.full(shape.shape, 0.6, jnp.float32),
        texture_basis=jnp.asarray(0.01 * waves), triangles=jnp.asarray(triangles, jnp.int32),
        landmark_vertices=jnp.arange(66, dtype=jnp.int32), expression_names=())


def measure(function, *arguments, runs: int, peak: harness.Ceilings,
            peer: Callable[[], Any] | None = None) -> dict[str, float]:
    """One row's figures of a function: compile apart, blocked runs, share of the roofline; `peer` is timed beside."""
    program = harness.compile_program(function, *arguments)
    calls = {"run": lambda: program.call(*arguments)} | ({} if peer is None else {"torch": peer})
    spreads = harness.run_blocked(calls, runs=runs)
    found = {**program.row(), **spreads["run"].row(), **harness.roofline(program, spreads["run"], peak)}
    if peer is not None:
        found |= {"torch": round(spreads["torch"].ms, 3), "torch_low": round(spreads["torch"].low, 3),
                  "ratio": round(spreads["torch"].ms / spreads["run"].ms, 3)}
    return found


def torch_peer(vertices, colours, triangles, target) -> Callable[[], Any]:
    """() -> gradients of the mean squared error to vertices [V, 3] and colours [V, 3], in PyTorch."""
    import torch

    from benchmarks.torch_reference.raster import draw
    from benchmarks.torch_reference.tensors import tensor

    torch.set_num_threads(runtime.threads())
    vertices, colours, target = (tensor(array)[None] for array in (vertices, colours, target))
    triangles, side = tensor(triangles).long(), target.shape[1]

    def run():
        moving = [array.detach().requires_grad_(True) for array in (vertices, colours)]
        image, _ = draw(*moving, triangles, side=side)
        return torch.autograd.grad((image - target).square().mean(), moving)

    return run


def case(model: MorphableModel, resolution: int, *, runs: int, peak: harness.Ceilings,
         torch: bool = False) -> dict[str, dict[str, float]]:
    """The four timings of one mesh at one size."""
    camera = CameraConfig()
    params = FaceParams.from_vector(0.1 * jax.random.normal(jax.random.key(0), (257,)))
    vertices = render.project(model.mean_shape, params, camera, resolution=resolution)
    colours = jax.random.uniform(jax.random.key(1), model.mean_shape.shape)
    target = jax.random.uniform(jax.random.key(2), (resolution, resolution, 3))

    def drawn(vertices, colours, triangles):
        fragments = raster.rasterize(vertices, triangles, height=resolution, width=resolution)
        return raster.interpolate(fragments, triangles, colours)

    def drawn_error(vertices, colours, triangles, target):
        return jnp.mean(jnp.square(drawn(vertices, colours, triangles) - target))

    def rendered(params, model):
        return render.render(model, params, camera, resolution=resolution)

    def rendered_error(params, model, target):
        rendering = rendered(params, model)
        return jnp.mean(jnp.square(rendering.image - target)) + 1e-4 * jnp.mean(jnp.square(rendering.landmarks))

    peer = torch_peer(vertices, colours, model.triangles, target) if torch else None
    return {
        "raster_forward": measure(drawn, vertices, colours, model.triangles, runs=runs, peak=peak),
        "raster_gradient": measure(jax.value_and_grad(drawn_error, (0, 1)), vertices, colours, model.triangles, target,
                                   runs=runs, peak=peak, peer=peer),
        "render_forward": measure(rendered, params, model, runs=runs, peak=peak),
        "render_gradient": measure(jax.value_and_grad(rendered_error), params, model, target, runs=runs, peak=peak),
    }


@command.guarded_main
def main(argv: list[str]) -> int:
    parser = command.Parser(module="benchmarks.raster", description=__doc__)
    command.add_debug(parser)
    parser.add_argument("--out", metavar="FILE", help="append one JSON line a timing to this file")
    parser.add_argument("--torch", action="store_true", help="time PyTorch beside")
    parser.add_argument("--cores", type=int, help="keep to so many processors")
    parser.add_argument("--runs", type=int, default=25, help="blocked runs a timing (default: %(default)s)")
    arguments = parser.parse_args(argv)
    harness.start(use_cores=arguments.cores)
    peak = harness.ceilings()
    demo = jax.tree.map(jnp.asarray, build_head().morphable)
    for name, model, resolution in (("demo", demo, 64), ("demo", demo, 128), ("grid", grid_head(), 224)):
        mesh = {"benchmark": "raster", "mesh": name, "vertices": len(model.mean_shape),
                "triangles": len(model.triangles), "resolution": resolution}
        figures = case(model, resolution, runs=arguments.runs, peak=peak, torch=arguments.torch)
        rows = [{**mesh, "case": key, **values, **harness.describe_machine()} for key, values in figures.items()]
        print(f"{name} {mesh['vertices']} vertices / {mesh['triangles']} triangles at {resolution} px: "
              + ", ".join(f"{row['case']} {row['ms']} ms" for row in rows))
        if arguments.out:
            harness.append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
