"""Portraits to embeddings: the stages of the optimiser over PIE's energy, batched, resumable, with its evidence."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from pie_jax import energy as energies
from pie_jax import optimise
from pie_jax.arrays import Array, Device, check_shape
from pie_jax.config import DEFAULT_PRESET, PRECISIONS, CameraConfig, EmbedConfig, preset_stages
from pie_jax.errors import PackError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import load_portrait
from pie_jax.pack import PARTS, Pack
from pie_jax.portrait.axes import axes_for
from pie_jax.portrait.checkpoint import Checkpoint, join_states, join_traces
from pie_jax.portrait.comparison import compare
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.initialisation import guessed_codes, nearest_random_codes
from pie_jax.portrait.micro_batch import micro_batch_of
from pie_jax.portrait.sharding import Mesh, ShardedEnergy, portrait_mesh, replicate, shard_batch
from pie_jax.portrait.synthesis import as_pack
from pie_jax.runtime import local_devices

_LAST_STEPS = 50  # the last terms of a report are medians over so many steps: a new v each step makes them noisy


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedProgress:
    """What is known between two chunks of steps."""

    phase: str  # "compile" (about to) or "optimise"
    portraits: tuple[int, ...]  # indices of the portraits at work
    space: str  # "w" or "w_plus"
    step: int  # steps done over all stages, of the portrait that is farthest behind
    steps: int  # of all stages
    energy: float | None  # mean over the portraits at work
    checkpoints: Callable[[], list[Checkpoint]]  # one for each of `portraits`, as of now


def embed_portraits(pack: Pack | str | os.PathLike, portraits: Array | Sequence, *, config: EmbedConfig | None = None,
                    batch: int = 1, micro_batch: int | None = None, devices: Sequence[Device] | None = None,
                    landmarks: Sequence[Array | None] | None = None,
                    resume: Sequence[Checkpoint | None] | None = None,
                    progress: Callable[[EmbedProgress], None] | None = None) -> list[Embedding]:
    """Find for each portrait the code w_plus whose synthesis gives it back and can be edited (PIE, arXiv 2009.09485).

    First one code w for all layers, then W+: in PIE 2000 and 1000 steps of AdaDelta from the mean code, by default 100
    and 200 of Adam from codes whose portraits look like the photo.
    A portrait's result depends on the pack, the config and its own pixels, not on its neighbours. In a micro-batch of
    another size, or at another place in it, sums are rounded in another order, and the search makes
    more of it: see docs/reliability.md. The report names the size.

    Args:
      pack: a Pack, or the folder or name of one.
      portraits: [B, H, W, 3] in 0..1 at the pack's resolution, or a sequence of such images and of paths.
      config: what decides the result; default: the pack's own energy, the stages of `fast`, seed 0. Its precision is
        that of the steps; what they found is looked at in float32.
      batch: portraits that are optimised side by side.
      micro_batch: portraits of a batch in one program on each device; the parts of a batch take their steps in turns,
        so that memory grows with a part and hardly with the batch. With 1 a portrait's result is the same bit for bit
        in every batch. A batch is cut into parts of one size, and the last part is filled up. Default: on a CPU as
        many as gain time, elsewhere the whole batch.
      devices: share every batch out over these, rounded up to as many on each; default: the default device alone.
      landmarks: for each portrait the 66 points [66, 2] of its face, in 0..1 of the portrait, or None for those that
        the pack's own network finds; default: None for all.
      resume: for each portrait a Checkpoint of the same config and micro-batch to go on from, or None. The result is
        the same, bit for bit, as without the interruption.
      progress: called before compiling and after each chunk of steps. What it raises ends the run.

    Returns:
      One Embedding for each portrait. Values that stopped being finite never raise: `report["outcome"]` is then
      "non-finite", the terms are named in `report["incidents"]`, and w_plus is the last good one.

    Raises:
      PackError: a part that the energy needs is missing. InputError: a photo cannot be used. ValueError: wrong shape.
    """
    began = time.perf_counter()
    loaded = as_pack(pack)
    loaded.require("generator")
    platform = (devices or local_devices(count=1))[0].platform
    config = (config or EmbedConfig(energy=loaded.configs.energy, stages=preset_stages(
        DEFAULT_PRESET, encoder=loaded.has_encoder))).on(platform)
    if config.stages and config.stages[0].encoded and not config.stages[0].nearest_random_codes:
        loaded.require("encoder")
        if not loaded.has_encoder:
            raise PackError(f"{loaded.name}: its encoder was trained on another generator; train it anew "
                            f"({PARTS['encoder'].command})")
    images = _stack(portraits, loaded.configs.generator.resolution)
    starts = list(resume) if resume is not None else [None] * len(images)
    points = list(landmarks) if landmarks is not None else [None] * len(images)
    for name, given in (("resume", starts), ("landmarks", points)):
        if len(given) != len(images):
            raise ValueError(f"{name}: expected {len(images)} entries, got {len(given)}")
    points = _in_crops(points, loaded.configs.camera)
    if batch < 1:
        raise ValueError(f"batch: expected 1 or more, got {batch}")
    mesh, count = None, len(devices) if devices else 1
    batch = -(-batch // count) * count
    each = count * micro_batch_of(batch // count, generator=loaded.configs.generator, platform=platform,
                                  asked=micro_batch)
    if devices is not None and count > 1:
        mesh = portrait_mesh(devices)
        loaded = replicate(mesh, loaded)
    load_seconds = time.perf_counter() - began
    results: dict[int, Embedding] = {}
    places = [start.stage if start else -1 for start in starts]
    for place in sorted(set(places)):
        # portraits that are in the same stage go together: a stage is one setting of the program
        stage, indices = max(place, 0), [i for i, p in enumerate(places) if p == place]
        for first in range(0, len(indices), batch):
            chosen = indices[first:first + batch]
            run = _BatchRun(loaded, images[chosen], points[chosen], [starts[i] for i in chosen], config=config,
                            indices=tuple(chosen), batch=batch, micro_batch=each, mesh=mesh, progress=progress)
            for i, embedding in zip(chosen, run.embeddings(stage, load_seconds / len(images)), strict=True):
                results[i] = embedding
    return [results[i] for i in range(len(images))]


def portrait_seed(portrait: Array, seed: int) -> int:
    """The seed of one portrait's draws, from the run's seed and the portrait's pixels; 0..2^32 - 1."""
    digest = hashlib.sha256(str(int(seed)).encode() + b":" + np.ascontiguousarray(portrait, np.float32).tobytes())
    return int.from_bytes(digest.digest()[:4], "big")


def _stack(portraits, resolution: int) -> np.ndarray:
    if isinstance(portraits, str | os.PathLike):
        portraits = [portraits]
    images = [load_portrait(p, resolution=resolution) if isinstance(p, str | os.PathLike) else np.asarray(p, np.float32)
              for p in portraits]
    for image in images:
        check_shape("portraits", image, (resolution, resolution, 3))
        if image.ndim != 3:
            raise ValueError(f"portraits: expected [H, W, 3] each, got {list(image.shape)}")
        if not (np.isfinite(image).all() and image.min() >= -1e-3 and image.max() <= 1 + 1e-3):
            raise ValueError("portraits: expected values in 0..1")
    return np.stack(images) if images else np.zeros((0, resolution, resolution, 3), np.float32)


def _in_crops(landmarks: Sequence[Array | None], camera: CameraConfig) -> np.ndarray:
    """[B, 66, 2]: points in 0..1 of portraits as points in 0..1 of their face crops; NaN where there are none."""
    found = np.full((len(landmarks), 66, 2), np.nan, np.float32)
    for i, points in enumerate(landmarks):
        if points is not None:
            check_shape("landmarks", points, (66, 2))
            found[i] = (np.asarray(points) - (camera.crop_x, camera.crop_y)) / camera.crop_size
    return found


class _BatchRun:
    """One batch through all stages, in parts of `micro_batch` portraits on all devices together.

    Rows beyond `indices` repeat the last portrait and are dropped at the end.
    """

    def __init__(self, pack: Pack, images: np.ndarray, landmarks: np.ndarray, starts: list[Checkpoint | None], *,
                 config: EmbedConfig, indices: tuple[int, ...], batch: int, micro_batch: int, mesh: Mesh | None,
                 progress):
        fill = -len(images) % micro_batch
        self.pack, self.config, self.indices, self.progress = pack, config, indices, progress
        self.images, self.landmarks = (np.concatenate([rows, np.repeat(rows[-1:], fill, axis=0)])
                                       for rows in (images, landmarks))
        self.starts = starts + [starts[-1]] * fill
        self.batch, self.micro_batch = batch, micro_batch
        self.parts = [slice(i, i + micro_batch) for i in range(0, len(self.images), micro_batch)]
        self.precision = PRECISIONS[config.precision]
        plain = energies.portrait_energy(pack, config=config.energy, precision=self.precision)
        self.missing = plain.missing
        staged = [plain.in_stage(stage) for stage in config.stages]
        self.resolution = staged[0].portrait_resolution
        self.energies = staged if mesh is None else [ShardedEnergy(energy=e, mesh=mesh) for e in staged]
        self.place = (lambda tree: tree) if mesh is None else partial(shard_batch, mesh)
        self.traces: list[dict[str, np.ndarray]] = []
        self.incidents: list[list[dict]] = [list(s.incidents) if s else [] for s in self.starts]
        self.seconds_before = [s.seconds if s else 0.0 for s in self.starts]
        self.compile_seconds = self.optimise_seconds = 0.0
        self.compiled = set()  # (energy, what a stage compiles to)
        self.computed = 0  # steps made here, not before an interruption

    def embeddings(self, first_stage: int, load_seconds: float) -> list[Embedding]:
        stages = self.config.stages
        self._tell("compile", first_stage, 0, None, lambda: [])
        began = time.perf_counter()
        targets = jax.block_until_ready([self._target(part) for part in self.parts])
        starts = [start for start in self.starts if start is not None]  # all of a batch, or none
        resumed = bool(starts)
        latent = None if resumed else self._start()
        self.compile_seconds = time.perf_counter() - began
        inputs = energies.energy_inputs(self.pack, targets[0], config=self.config.energy)
        if len(targets) > 1:
            parts = tuple(dataclasses.replace(inputs, target=target) for target in targets)
            inputs = optimise.MicroBatches(parts=parts)
        seeds = [portrait_seed(image, self.config.seed) for image in self.images]
        keys = optimise.portrait_keys(np.asarray(seeds, np.uint32))
        axes = axes_for(self.pack, self.config)
        self.traces = [join_traces(starts, i) for i in range(first_stage)]
        outcomes = ["finished"] * len(self.images)
        for index in range(first_stage, len(stages)):
            stage = stages[index]
            trace = None
            if resumed and index == first_stage:
                state = optimise.state_from_arrays(join_states(starts), stage=stage)
                trace = join_traces(starts, index)
            else:
                state = optimise.start_stage(latent, keys, stage=stage, index=index)
            state = self.place(state)
            if stage.steps == 0:
                self.traces.append({})
                continue
            self._compile(state, inputs, index, axes)
            began, before = time.perf_counter(), self._steps_left(state, stage)
            result = optimise.run_stage(state, inputs, energy=self.energies[index], stage=stage, axes=axes,
                                        trace=trace, progress=partial(self._report, index, began))
            jax.block_until_ready(result.state.latent)
            self.optimise_seconds += time.perf_counter() - began
            self.computed += before
            latent = result.state.latent
            self.traces.append(result.trace)
            self._note_incidents(index, result.incidents)
            outcomes = [a if a != "finished" else b for a, b in zip(outcomes, result.outcomes)]
        return self._finish(latent, targets, outcomes, load_seconds)

    def _target(self, part: slice) -> energies.Target:
        target = energies.prepare_target(self.pack, self.place(self.images[part]), precision=self.precision)
        known = self.landmarks[part]
        if target.landmarks is None or np.isnan(known).all():
            return target
        points = np.where(np.isnan(known), np.asarray(target.landmarks), known)
        return dataclasses.replace(target, landmarks=self.place(points))

    def _start(self) -> np.ndarray:
        """The latent [B, L, D] that the first stage begins with."""
        generator, stage = self.pack.configs.generator, self.config.stages[0]
        mean = np.asarray(self.pack.weights["generator"]["w_mean"])[None]
        shape = len(self.images), generator.num_layers, generator.w_dim
        w_plus = np.broadcast_to(mean[:, None], shape)
        if stage.encoded and self.pack.has_encoder:
            guessed = np.concatenate([guessed_codes(self.pack, self.images[part]) for part in self.parts])
            return np.where(np.isfinite(guessed).all(axis=(1, 2), keepdims=True), guessed, w_plus)
        if stage.nearest_random_codes:
            w = nearest_random_codes(self.pack, self.images, nearest=stage.nearest_random_codes,
                                     resolution=self.resolution)
            w = np.where(np.isfinite(w).all(axis=-1, keepdims=True), w, mean)  # what is saved at last is a code
            return np.broadcast_to(w[:, None], shape)
        return w_plus

    def _steps_left(self, state, stage) -> int:
        return int(stage.steps - np.asarray(state.step).min())

    def _compile(self, state, inputs, index: int, axes: optimise.Axes | None) -> None:
        stage, energy = self.config.stages[index], self.energies[index]
        program = energy, optimise.compilation_key(stage)
        if program in self.compiled:
            return
        began = time.perf_counter()
        optimise.compile_chunk(state, inputs, energy=energy, stage=stage, axes=axes)
        self.compile_seconds += time.perf_counter() - began
        self.compiled.add(program)

    def _note_incidents(self, index: int, incidents) -> None:
        for incident in incidents:
            self.incidents[incident.portrait].append({"stage": index, "step": incident.step, "term": incident.term})

    def _report(self, index: int, began: float, progress: optimise.Progress) -> None:
        values = progress.trace["energy"][: progress.step]
        recent = values[-self.config.stages[index].chunk:, : len(self.indices)]
        energy = float(np.nanmean(recent)) if recent.size and np.isfinite(recent).any() else None
        seconds = self.optimise_seconds + time.perf_counter() - began
        self._tell("optimise", index, progress.step, energy, lambda: self._checkpoints(index, progress, seconds))

    def _tell(self, phase: str, index: int, step: int, energy: float | None, checkpoints) -> None:
        if self.progress is None:
            return
        stages = self.config.stages
        self.progress(EmbedProgress(
            phase=phase, portraits=self.indices, space=stages[index].space, energy=energy, checkpoints=checkpoints,
            step=sum(s.steps for s in stages[:index]) + step, steps=sum(s.steps for s in stages)))

    def _checkpoints(self, index: int, progress: optimise.Progress, seconds: float) -> list[Checkpoint]:
        arrays = optimise.state_arrays(progress.state)
        found = []
        for row in range(len(self.indices)):
            traces = [{name: values[:, row] for name, values in trace.items()}
                      for trace in [*self.traces[:index], progress.trace]]
            incidents = self.incidents[row] + [{"stage": index, "step": i.step, "term": i.term}
                                               for i in progress.incidents if i.portrait == row]
            found.append(Checkpoint(stage=index, state={name: a[row:row + 1] for name, a in arrays.items()},
                                    traces=tuple(traces), incidents=tuple(incidents),
                                    seconds=self.seconds_before[row] + seconds))
        return found

    def _finish(self, latent, targets: Sequence[energies.Target], outcomes: list[str],
                load_seconds: float) -> list[Embedding]:
        looks = []
        for part, target in zip(self.parts, targets, strict=True):
            code = self.place(latent[part])
            looks.append(jax.device_get(compare(self.pack, code, target, precision=self.precision)))
        latent = np.asarray(latent, np.float32)
        found = []
        for row in range(len(self.indices)):
            part, place = divmod(row, self.micro_batch)
            own = {name: values[place] for name, values in looks[part].items() if values is not None}
            trace = self._trace(row)
            steps = sum(stage.steps for stage in self.config.stages)
            seconds = {"load": load_seconds, "compile": self.compile_seconds, "optimise":
                       self.seconds_before[row] + self.optimise_seconds}
            report = {"outcome": outcomes[row], "incidents": self.incidents[row], "metrics": _metrics(own),
                      "terms": _last_values(trace), "steps": steps, "batch": self.batch,
                      "micro_batch": self.micro_batch,
                      "left_out": [list(pair) for pair in self.missing],
                      "steps_per_second": self.computed / self.optimise_seconds if self.optimise_seconds else None,
                      "seconds": seconds}
            found.append(Embedding(
                w_plus=latent[row], params=_face(own.get("params_vector")),
                portrait_params=_face(own.get("portrait_params_vector")),
                landmarks=own.get("landmarks"), portrait_landmarks=own.get("portrait_landmarks"), trace=trace,
                config=self.config, pack_name=self.pack.name, pack_hash=self.pack.hash, report=report,
                synthesis=own["synthesis"]))
        return found

    def _trace(self, row: int) -> dict[str, np.ndarray]:
        """All stages in one [steps]; a stage of no steps adds nothing."""
        names = list(dict.fromkeys(name for trace in self.traces for name in trace))
        return {name: np.concatenate([trace[name][:, row] for trace in self.traces if name in trace]).astype(np.float32)
                for name in names}


def _face(params_vector: np.ndarray | None) -> FaceParams | None:
    """FaceParams of numpy fields [n] from a vector [257]; None where it is not finite."""
    if params_vector is None or not np.isfinite(params_vector).all():
        return None
    return jax.tree.map(np.asarray, FaceParams.from_vector(np.asarray(params_vector, np.float32)))


def _metrics(own: dict) -> dict:
    metrics = {"psnr_db": own["psnr"], "ssim": own["ssim"]}
    for name, key in (("landmark_error", "landmark_error_px224"), ("identity_cosine", "identity_cosine")):
        if name in own:
            metrics[key] = own[name]
    return {key: float(value) if np.isfinite(value) else None for key, value in metrics.items()}


def _last_values(trace: dict[str, np.ndarray]) -> dict:
    """Of every term the median over its last steps; None where it was never finite."""
    found = {}
    for name, values in trace.items():
        good = values[np.isfinite(values)][-_LAST_STEPS:]
        found[name] = float(np.median(good)) if good.size else None
    return found
