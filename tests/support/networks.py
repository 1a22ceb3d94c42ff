"""Calls of networks that tests share: one compiled `apply`, and how many weights there are."""

import functools
import math

import jax


@functools.partial(jax.jit, static_argnames=("module", "resolution", "stopping"))
def run(weights, x, *, module, **settings):
    return module.apply({"params": weights}, x, **settings)


def count(tree, *, without=()):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return sum(math.prod(leaf.shape) for path, leaf in leaves if path[-1].key not in without)
