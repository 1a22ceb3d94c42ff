"""JAX's settings: the compilation cache, the precision of matrix products, devices. No other module touches them."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jaxlib.xla_client import get_topology_for_devices

from pie_jax.arrays import Device
from pie_jax.bounds import Bounds, committed_bounds
from pie_jax.errors import ResourceError

PRECISIONS = ("default", "high", "highest")
_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "tpu": "tpu"}
_LEVEL = "xla_backend_optimization_level"
_NEWER_EMITTERS = "xla_cpu_use_fusion_emitters"  # of XLA:CPU: without them programs are as quick, made in less time
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
# Whether XLA:CPU shares out the products of 36 small matrices; before, up to 128 channels, one thread makes them all.
SHARES_PRODUCTS = jax.__version_info__ >= (0, 11)


def _default_bounds() -> Bounds:
    return committed_bounds(threads(), shares_products=SHARES_PRODUCTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backend:
    """What programs are made for. Kernels choose their form by it, and by nothing else."""

    platform: str  # "cpu", "gpu" or "tpu"
    bounds: Bounds = dataclasses.field(default_factory=_default_bounds)  # read on a CPU alone

    @property
    def is_cpu(self) -> bool:
        return self.platform == "cpu"


_FORCED = jax.make_user_context(None)  # a Backend; part of the key of every compiled program
_chosen_bounds: list[Bounds] = []  # one or none


def backend() -> Backend:
    """The backend of the device that `configure` chose, or the one of an enclosing `made_for`."""
    if _FORCED.value is not None:
        return _FORCED.value
    platform = str(default_device().platform)
    return Backend(platform={"cuda": "gpu", "rocm": "gpu"}.get(platform, platform),
                   bounds=_chosen_bounds[0] if _chosen_bounds else _default_bounds())


def default_device() -> Device:
    """The device that programs run on: the one that `configure` chose, or JAX's own choice."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return jax.devices(chosen)[0] if chosen is None or isinstance(chosen, str) else chosen


def choose_bounds(bounds: Bounds) -> None:
    """Make programs of this process by these bounds; call it after `configure`, before the first program.

    It is for a whole process: the first choice holds, for programs that are made already keep theirs.
    """
    if not _chosen_bounds:
        _chosen_bounds.append(bounds)


def has_chosen_bounds() -> bool:
    """Whether `choose_bounds` was called in this process."""
    return bool(_chosen_bounds)


@contextlib.contextmanager
def made_for(chosen: Backend) -> Iterator[None]:
    """Make programs in the forms of another backend inside the block, on whatever device they run."""
    with _FORCED(chosen):
        yield


def cache_folder() -> Path | None:
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, else pie_jax/xla in the user's cache folder.

    None: neither is there, as for a user without a home folder.
    """
    try:
        return _cache_folder()
    except RuntimeError:  # pathlib knows no home
        return None


def keeps_programs() -> bool:
    """Whether compiled programs are kept for the next run of a command, once `configure` was called."""
    return getattr(jax.config, "jax_compilation_cache_dir") is not None  # noqa: B009 - JAX does not declare it


def _cache_folder() -> Path:
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "pie_jax" / "xla"


def configure(*, cache: bool = True, precision: str = "default", device: str | None = None,
              preallocate: bool = False) -> Device:
    """Set JAX up for a command; call it once, before the first array is made.

    On a CPU programs then run in the thread that calls them, and (with glibc) the memory that they work in is kept from
    one call to the next.

    Args:
      cache: keep every compiled program in `cache_folder()`, so that the next run of a command starts at once. A
        folder that cannot be written only costs the cache.
      precision: of float32 matrix products and convolutions where the device offers a faster one (TF32 on a GPU):
        "default", "high" or "highest". Geometry asks for the highest by itself.
      device: "cpu", "gpu" or "tpu"; None leaves the choice to JAX.
      preallocate: let JAX take most of a GPU's memory at once, as it does by default, instead of what it needs.
    Returns:
      the device that computations will run on.
    Errors: ValueError (unknown name), ResourceError (no such device here).
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    if device is not None and device not in _PLATFORMS:
        raise ValueError(f"device: expected one of {tuple(_PLATFORMS)}, got {device!r}")
    if not preallocate:  # read when the GPU is first used, which is later than this
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_default_matmul_precision", None if precision == "default" else precision)
    if cache:
        folder = cache_folder()
        if folder is not None:
            _use_cache(folder)
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # read with the first device, see _keep_memory
    try:
        chosen = jax.devices(_PLATFORMS[device])[0] if device is not None else jax.devices()[0]
    except Exception as error:  # JAX answers mistakes of the environment with many kinds
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise ResourceError(f"device {device or 'default'}: not available here ({cause}); install JAX for it "
                            "or choose cpu") from error
    if device is not None:
        jax.config.update("jax_default_device", chosen)
    if chosen.platform == "cpu":
        _keep_memory()
    return chosen


def compile_target() -> tuple[str, ...]:
    """What decides how a program is compiled here, beside the program: devices, processor, and the user's flags."""
    device = default_device()
    try:  # as JAX's compilation cache has it; of a CPU this holds which instructions it knows
        machine = str(get_topology_for_devices([device]).fingerprint())
    except jax.errors.JaxRuntimeError:  # some devices tell nothing
        machine = f"{device.device_kind} {device.client.platform_version}"
    return machine, str(device.id), *(os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))


def compiled(lowered: jax.stages.Lowered, *, level: int) -> jax.stages.Compiled:
    """Compile a lowered program for the chosen device.

    level: of LLVM's optimisation on a CPU, 0 to 3, unless XLA_FLAGS names one. JaxRuntimeError: XLA cannot compile it.
    """
    if not backend().is_cpu or _LEVEL in os.environ.get("XLA_FLAGS", ""):
        return lowered.compile()
    options: dict = {_LEVEL: level}
    if _is_known(_NEWER_EMITTERS):
        options[_NEWER_EMITTERS] = False
    return lowered.compile(compiler_options=options)


@functools.cache
def _is_known(switch: str) -> bool:
    """Whether XLA knows a switch. It is asked with a small program: it takes long to refuse a large one."""
    try:
        jax.jit(lambda x: x + 1).lower(np.float32(0)).compile(compiler_options={switch: False})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def threads() -> int:
    """How many XLA:CPU works with: the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_visible_devices(accelerators: str) -> None:
    """Let this process use only these of the machine's accelerators: "all", or their numbers as "0,3".

    Call it before `configure`.
    """
    for kind in ("cuda", "rocm"):
        jax.config.update(f"jax_{kind}_visible_devices", accelerators)


def local_devices(*, count: int | None = None) -> list[Device]:
    """`count` of this process's devices of the kind that `configure` chose, the chosen one first.

    None: every accelerator, but one CPU device: several on one machine share its cores.
    Errors: ResourceError (fewer are here).
    """
    chosen = default_device()
    there = jax.local_devices(backend=chosen.platform)
    if count is None:
        count = 1 if chosen.platform == "cpu" else len(there)
    if not 1 <= count <= len(there):
        raise ResourceError(f"{count} {chosen.platform} devices: this process has {len(there)}; choose 1 to "
                            f"{len(there)}")
    return sorted(there, key=lambda device: device != chosen)[:count]


def _use_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        jax.config.update("jax_compilation_cache_dir", None)  # JAX has taken it from the environment
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _keep_memory() -> None:
    """Have the C library keep what is freed for the next call, instead of giving it back to the system.

    XLA:CPU allocates a program's working memory anew in every call. From 32 MB on glibc maps such a block and unmaps it
    afterwards, so that each step of a large generator has all its pages made and cleared again. Kept they are only in
    the main arena, which is the main thread's: so programs have to run in the thread that calls them, without
    asynchronous dispatch. (A single arena for all threads would do as well, but there each allocation has to search
    what the compiler has left behind.) Elsewhere than with glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never
