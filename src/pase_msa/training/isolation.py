"""Training inside another program, whose global state stays as it is."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Iterator

import numpy as np
import torch

from pase_msa import parallel

_SEEDS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # Lightning's `seed_everything` sets these


@contextlib.contextmanager
def preserve_global_state(verbose: bool, threads: int | None) -> Iterator[None]:
    """Restore random states, thread count, log level and environment variables when the block ends.

    Args:
        verbose: whether log messages below an error are shown inside the block.
        threads: torch threads inside the block; None leaves them.
    """
    logger = logging.getLogger("pase_msa")
    level = logger.level
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    seeds = {name: os.environ.get(name) for name in _SEEDS}
    with torch.random.fork_rng(range(torch.cuda.device_count())), parallel.threads(threads):
        try:
            if not verbose:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            logger.setLevel(level)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            for name, value in seeds.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
