"""Strict settings every test runs under.

Two thirds of the suite's work were XLA optimising toys that run once, so it compiles as quickly as it can here.
The golden embedding and the examples run as users run them.
"""

import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Threads of these two wait for each other in loops, for long where processes share few cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = ("--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
                               "--xla_cpu_multi_thread_eigen=false")
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end a process that names this flag
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import numpy as np
import pytest

from pie_jax import runtime

jax.config.update("jax_numpy_rank_promotion", "raise")
if (folder := runtime.cache_folder()) is not None:  # what tests compile is not what users' commands should find
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder.parent / "tests"))
    runtime._use_cache(pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))
runtime.choose_bounds(runtime.Backend(platform="cpu").bounds)  # no command in this process measures others
gc.set_threshold(100_000, 20, 50)  # tracing makes many objects that live on; to look through them as usual takes long

LONG = ("training/test_few_pictures.py", "reliability/test_kill.py", "embed/test_photo.py", "portrait/test_golden.py",
        "training/test_mouth.py", "training/test_encoder.py", "portrait/test_sharding.py", "embed/test_share.py",
        "embed/test_embed.py", "training/test_generator.py", "training/test_parts.py", "energy/test_energy.py",
        "test_backends.py", "reliability/test_fuzz.py", "studio/test_studio.py", "view/test_page.py",
        "training/test_photographs.py", "training/test_regressor.py", "reliability/test_numbers.py",
        "view/test_server.py")


def pytest_collection_modifyitems(items):
    """Long modules first: none is left for one process at the end, while others have nothing to do."""
    here = pathlib.Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in LONG)
    for item in items:  # a program that the other process has half written is compiled, as `runtime` has it for users
        item.add_marker(pytest.mark.filterwarnings("ignore:Error (reading|writing) persistent compilation cache"))


# Tests of rooms that draw random numbers (test_house.py names those). That no key is used twice is looked for there
# alone: JAX then leaves its quick way of calling programs, and traces for longer.
DRAWING = {"energy", "nn", "optimise", "pack", "portrait", "studio", "training", "tuning", "test_backends.py"}


@pytest.fixture(scope="module", autouse=True)
def keys_are_used_once(request):
    jax.config.update("jax_debug_key_reuse", not DRAWING.isdisjoint((request.path.parent.name, request.path.name)))


_MANY = 30_000  # memory maps; Linux lets a process have 65 530, and every program of XLA:CPU takes some
_MUCH = 2.5e9  # bytes of memory


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Let go of programs between modules, before a process has as many maps as it may, or much memory."""
    gc.freeze()  # each collection would go through all that earlier modules have left
    yield
    maps, pages = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/self/statm")
    if maps.is_file() and (maps.read_bytes().count(b"\n") > _MANY
                           or int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > _MUCH):
        from pie_jax import programs

        programs.forget()
        jax.clear_caches()
        gc.unfreeze()
        gc.collect()


@pytest.fixture(scope="session")
def shared_models() -> pathlib.Path:
    """Networks as their owners publish them, beside the checkout; tests that need them skip where they are absent."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "models"
    if not folder.is_dir():
        pytest.skip("published networks are absent: expected ../shared/models beside the checkout")
    return folder


@pytest.fixture(scope="session")
def photo_pack():
    """The shipped pack, as far as photos need it; with its mouth, as commands have it, so they share programs."""
    from pie_jax.pack import load_pack
    from pie_jax.photo.fitted import PARTS

    return load_pack("demo", parts=(*PARTS, "mouth"))


@pytest.fixture(scope="session")
def photo():
    """The sample photo that ships, a Pillow image, so small that its portrait is kept with 256 px."""
    from PIL import Image

    from pie_jax.pack import find_pack

    with Image.open(pathlib.Path(find_pack("demo")) / "photo.png") as image:
        return image.convert("RGB").resize((368, 368), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def fitted(photo_pack, photo):
    """That photo found, framed and fitted."""
    from pie_jax.photo.fitted import fit_photo, frame_photo

    square, landmarks = frame_photo(photo_pack, photo)
    return fit_photo(photo_pack, photo, square, landmarks)


@pytest.fixture(scope="session")
def source(fitted):
    """Its FaceParams."""
    return jax.tree.map(np.asarray, fitted.params)
