"""Milliseconds of the rasterizer and the renderer, forward and forward + gradient.

    python -m benchmarks.raster [--out benchmarks/results/raster.jsonl] [--runs 25]

Rows: the demo's morphable head at 64 and 128 px, and a grid head of 35 712 vertices / 70 680 triangles (the size of
Deep3DFaceRecon's mesh, 35 709 / 70 789) at 224 px. `raster` is rasterize + interpolate three channels, gradient to
vertices and colours; `render` is FaceParams to image and landmarks, gradient to the FaceParams. Median of blocked
runs; compile apart. `cpu_ms` is the process's processor time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax import raster, render
from pie_jax.config import CameraConfig
from pie_jax.morphable import FaceParams, MorphableModel
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


def measure(function, *arguments, runs: int) -> dict[str, float]:
    """Compile seconds, then the median wall and processor milliseconds of one blocked call."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    wall, processor = [], []
    for _ in range(runs):
        start, start_cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*arguments))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return {"ms": round(1e3 * statistics.median(wall), 2), "ms_min": round(1e3 * min(wall), 2),
            "cpu_ms": round(1e3 * statistics.median(processor), 2), "compile_s": round(compile_s, 2)}


def case(model: MorphableModel, resolution: int, *, runs: int) -> dict[str, dict[str, float]]:
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

    return {
        "raster_forward": measure(drawn, vertices, colours, model.triangles, runs=runs),
        "raster_gradient": measure(jax.value_and_grad(drawn_error, (0, 1)), vertices, colours, model.triangles, target,
                                   runs=runs),
        "render_forward": measure(rendered, params, model, runs=runs),
        "render_gradient": measure(jax.value_and_grad(rendered_error), params, model, target, runs=runs),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="FILE", help="append one JSON line a case to this file")
    parser.add_argument("--runs", type=int, default=25, help="blocked runs a timing (default: %(default)s)")
    arguments = parser.parse_args(argv)
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    demo = jax.tree.map(jnp.asarray, build_head().morphable)
    for name, model, resolution in (("demo", demo, 64), ("demo", demo, 128), ("grid", grid_head(), 224)):
        row = {"benchmark": "raster", "mesh": name, "vertices": len(model.mean_shape),
               "triangles": len(model.triangles), "resolution": resolution,
               **case(model, resolution, runs=arguments.runs), "runs": arguments.runs,
               "device": device.device_kind, "cores": cores,
               "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
               "jax": jax.__version__, "python": platform.python_version()}
        print(f"{name} {row['vertices']} vertices / {row['triangles']} triangles at {resolution} px: "
              + ", ".join(f"{key} {row[key]['ms']} ms" for key in row if key.startswith(("raster_", "render_"))))
        if arguments.out:
            with open(arguments.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
