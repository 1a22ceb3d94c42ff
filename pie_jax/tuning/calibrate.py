"""What edits of a pack answer to what they are asked for: the curves that `edit` goes through backwards, and its reach.

`python -m pie_jax.tuning.calibrate --pack DIR` asks the rigs on samples of v for the parameters of other samples,
reads the answers in the synthesised images with the pack's regressor, and leaves in the manifest, for every component
whose answer follows the request, the mean answer over the change asked for. Then it edits in full, one number at a time
over its range, and leaves what was asked, what was obtained with its spread, and from where to where it arrives.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from pie_jax.cli import command
from pie_jax.config import CONTROLS
from pie_jax.face3d.morphable import CONTROL_FIELDS, VECTOR_SLICES, FaceParams
from pie_jax.face3d.render import light_direction
from pie_jax.nn.layers import to_w_plus
from pie_jax.pack import Manifest, Pack, find_pack, inference, load_pack, update_configs
from pie_jax.portrait import calibration
from pie_jax.portrait.request import AXES, expression_names, target_params

if TYPE_CHECKING:
    from pie_jax.arrays import Array

SAMPLES = 256
ROUNDS = 6  # of requests for every sample
BINS = 9  # of the change asked for: the knots of a curve
FOLLOWS = 0.7  # correlation of answer and request, below which a component is left alone
STEEPEST, FLATTEST = 1.5, 0.5  # slope of a curve: a request is at most doubled, beyond that a rig leaves what it knows
CHECKED = 24  # samples that are edited in full
GRID = 9
LIGHT = {"azimuth": (-80.0, 80.0), "elevation": (-30.0, 75.0), "intensity": (0.3, 1.1)}  # where edits of it are tried
USUAL_LIGHT = (0.0, 20.0, 0.65)  # what the other two numbers are meanwhile
ARRIVES = 0.1  # an edit arrives when it is off by less than so much of its range, in the mean


def sample_codes(key: jax.Array, pack: Pack, count: int) -> tuple[jax.Array, np.ndarray]:
    """Codes w_plus [count, L, D] of random z, and the params_vector [count, 257] that the regressor reads in them."""
    generator = pack.configs.generator
    z = jax.random.normal(key, (count, generator.z_dim))
    w_plus = to_w_plus(inference.map_z(generator, pack.weights["generator"], z), generator.num_layers)
    return w_plus, _read(pack, w_plus)


@jax.jit
def _look(pack: Pack, w_plus):
    return inference.regress(pack.configs, pack.weights, inference.synthesise(
        pack.configs.generator, pack.weights["generator"], w_plus))


def _read(pack: Pack, w_plus, *, batch: int = 8) -> np.ndarray:
    """params_vector [N, 257] of codes [N, L, D], in compiled batches; N a multiple of `batch`."""
    return np.concatenate([np.asarray(_look(pack, w_plus[i:i + batch])) for i in range(0, len(w_plus), batch)])


def curve_of(asked: np.ndarray, got: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Changes asked and got [N] -> the knots of a rising curve through (0, 0), None where got does not follow asked.

    Its slope is held between FLATTEST and STEEPEST, so that it can be gone through backwards.
    """
    if asked.std() < 1e-6 or got.std() < 1e-9 or not np.corrcoef(asked, got)[0, 1] >= FOLLOWS:
        return None
    bins = np.array_split(np.argsort(asked, kind="stable"), BINS)
    x = np.asarray([asked[rows].mean() for rows in bins])
    y = scipy.optimize.isotonic_regression([got[rows].mean() for rows in bins]).x
    at_zero, place = np.interp(0.0, x, y), np.searchsorted(x, 0.0)
    x, y = np.insert(x, place, 0.0), np.insert(y - at_zero, place, 0.0)
    apart = np.concatenate([[True], np.diff(x) > 1e-6])
    x, y = x[apart], y[apart]
    steps = np.clip(np.diff(y), FLATTEST * np.diff(x), STEEPEST * np.diff(x))
    y = np.concatenate([[0.0], np.cumsum(steps)])
    return x, y - np.interp(0.0, x, y)


def measure_curves(key: jax.Array, pack: Pack, w_plus: Array, params_vector: np.ndarray, *,
                   control: str) -> dict[str, dict[str, list[float]]]:
    """Component number -> {"asked", "got"} of the rig of `control`: every sample is asked for other samples' values."""
    part = VECTOR_SLICES[CONTROL_FIELDS[control]]
    source = FaceParams.from_vector(jnp.asarray(params_vector))
    asked, got = [], []
    for round_ in range(ROUNDS):
        other = np.asarray(jax.random.permutation(jax.random.fold_in(key, round_), len(params_vector)))
        wanted = params_vector.copy()
        wanted[:, part] = params_vector[other][:, part]
        target = FaceParams.from_vector(jnp.asarray(wanted))
        moved = calibration.apply_rig(pack, w_plus, source, target, control=control)
        asked.append((wanted - params_vector)[:, part])
        got.append((_read(pack, moved) - params_vector)[:, part])
    asked, got = np.concatenate(asked), np.concatenate(got)
    found = {str(i): curve_of(asked[:, i], got[:, i]) for i in range(asked.shape[1])}
    return {i: {"asked": _rounded(c[0]), "got": _rounded(c[1])} for i, c in found.items() if c is not None}


def quantities(pack: Pack, params_vector: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Name of a number one can ask for -> (its control, the grid of values to ask), for what follows its request."""
    found, names = {}, expression_names(pack)
    for control, labels in (("pose", AXES), ("expression", names)):
        part = VECTOR_SLICES[CONTROL_FIELDS[control]]
        for index in calibration.curves(pack, control):
            values = params_vector[:, part.start + index] * (180 / math.pi if control == "pose" else 1.0)
            low, high = np.percentile(values, (2, 98))
            found[labels[index]] = (control, np.linspace(low - 0.25 * (high - low), high + 0.25 * (high - low), GRID))
    if calibration.curves(pack, "illumination"):
        found |= {name: ("illumination", np.linspace(*ends, GRID)) for name, ends in LIGHT.items()}
    return found


def request_of(name: str, control: str, value: float) -> dict:
    """The arguments of `edit_portrait` that ask for it."""
    if control == "pose":
        return {name: value}
    if control == "expression":
        return {"expression": {name: value}}
    return {"light": tuple(value if own == name else usual for own, usual in zip(LIGHT, USUAL_LIGHT, strict=True))}


def obtained(params_vector: np.ndarray, name: str, control: str, names: tuple[str, ...]) -> np.ndarray:
    """What FaceParams vectors [N, 257] say of a number, [N], in the unit it is asked in."""
    params = FaceParams.from_vector(params_vector)
    if control == "pose":
        return np.degrees(params.rotation[:, AXES.index(name)])
    if control == "expression":
        return np.asarray(params.expression[:, names.index(name)])
    place = tuple(LIGHT).index(name)
    return np.asarray([float(light_direction(gamma)[place]) for gamma in jnp.asarray(params.illumination)])


def measure_reach(pack: Pack, w_plus: Array, params_vector: np.ndarray, *, name: str, control: str,
                  grid: np.ndarray) -> dict:
    """Full edits of the samples to every value of `grid`: {"asked", "obtained" (mean), "spread", "reach" or None}."""
    names = expression_names(pack)
    rows = [jax.tree.map(np.asarray, FaceParams.from_vector(row)) for row in params_vector]
    source = FaceParams.from_vector(jnp.asarray(params_vector))
    means, spreads = [], []
    for value in grid:
        targets = [target_params(pack, row, **request_of(name, control, float(value)))[0] for row in rows]
        wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *targets)
        moved = [calibration.solve_edit(pack, w_plus[i:i + 8], *(jax.tree.map(lambda x, i=i: x[i:i + 8], p)
                                                        for p in (source, wanted)), order=(control,))
                 for i in range(0, len(params_vector), 8)]
        values = obtained(_read(pack, jnp.concatenate(moved)), name, control, names)
        means.append(float(values.mean()))
        spreads.append(float(values.std()))
    found = {"asked": _rounded(grid), "obtained": _rounded(means), "spread": _rounded(spreads)}
    return found | {"reach": reach_of(grid, np.asarray(means))}


def reach_of(asked: np.ndarray, got: np.ndarray) -> list[float] | None:
    """[low, high]: the values round the middle of `asked` at which `got` is off by less than ARRIVES of the range."""
    close = np.abs(got - asked) <= ARRIVES * (asked[-1] - asked[0])
    middle = len(asked) // 2
    if not close[middle]:
        return None
    low = high = middle
    while low > 0 and close[low - 1]:
        low -= 1
    while high < len(asked) - 1 and close[high + 1]:
        high += 1
    return _rounded(asked[[low, high]])


def _rounded(values) -> list[float]:
    return [float(f"{float(value):.4g}") for value in values]


def calibrate(pack: Pack, *, seed: int, samples: int, checked: int,
              tell: Callable[[str], None] = lambda line: None) -> dict:
    """The manifest's entry "calibration". PackError: generator, regressor, morphable model or every rig is missing."""
    pack.require("generator", "regressor", "morphable")
    controls = [control for control in CONTROLS if f"rignet_{control}" in pack.weights]
    if not controls:
        pack.require(f"rignet_{CONTROLS[0]}")
    key = jax.random.key(seed)
    w_plus, params_vector = sample_codes(jax.random.fold_in(key, 1), pack, samples)
    found = {"parts": calibration.part_hashes(pack), "samples": samples, "checked": checked, "curves": {}, "reach": {},
             "edits": {}}
    for number, control in enumerate(controls):
        curves = measure_curves(jax.random.fold_in(key, 2 + number), pack, w_plus, params_vector, control=control)
        found["curves"][control] = curves
        tell(f"{control}: {len(curves)} components follow their request")
    pack = dataclasses.replace(pack, manifest=Manifest({**pack.manifest, "calibration": found}))
    for name, (control, grid) in quantities(pack, params_vector).items():
        edits = measure_reach(pack, w_plus[:checked], params_vector[:checked], name=name, control=control, grid=grid)
        reach = edits.pop("reach")
        found["edits"][name] = edits
        if reach is not None:
            found["reach"][name] = reach
        tell(f"{name}: " + (f"arrives from {reach[0]:g} to {reach[1]:g}" if reach else "does not arrive"))
    return found


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.tuning.calibrate", description=__doc__)
    parser.add_argument("--pack", default="demo", metavar="DIR")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="codes for the curves (default: %(default)s)")
    parser.add_argument("--checked", type=int, default=CHECKED, help="codes edited in full (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)

    command.configure("auto", autotune=arguments.autotune)
    folder = find_pack(arguments.pack)
    pack = load_pack(folder)
    samples, checked = (8 * math.ceil(max(n, 8) / 8) for n in (arguments.samples, arguments.checked))
    tell = partial(print, file=sys.stderr, flush=True)
    found = calibrate(pack, seed=arguments.seed, samples=max(samples, checked), checked=checked, tell=tell)
    recipe = ("python -m pie_jax.tuning.calibrate "
               f"--samples {samples} --checked {checked} --seed {arguments.seed}")
    update_configs(folder, calibration=found | {"command": recipe})


if __name__ == "__main__":
    raise SystemExit(main())
