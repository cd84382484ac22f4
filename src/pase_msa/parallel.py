"""Where parallel work runs, and on how many threads: processes of this machine or a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from pase_msa.errors import PaSEError

Backend = Literal["loky", "ray"]
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def rank() -> int:
    """Number of this process among those that train one model; 0 for the first one, and for the only one."""
    return next((int(os.environ[name]) for name in _RANKS if os.environ.get(name, "").isdigit()), 0)


@contextlib.contextmanager
def threads(count: int | None, *, numpy: bool = False) -> Iterator[None]:
    """Set the number of torch's threads inside the block; also usable as a decorator.

    Threads change the order of sums, which changes rounding. Results that must be equal on every machine are computed
    on one thread.

    Args:
        count: of threads; None leaves the number as it is.
        numpy: whether to limit NumPy's threads too.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        with threadpool_limits(count if numpy else None):
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def ray_session(cores: int) -> Iterator[None]:
    """Ray inside the block; where none is running, one is started and stopped at the end.

    Args:
        cores: of a Ray that is started on this machine; `RAY_ADDRESS` names a cluster instead.

    Errors:
        PaSEError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise PaSEError("The backend 'ray' needs Ray: pip install 'pase-msa[ray]', or take --backend loky.") from error
    ours = not ray.is_initialized()
    if ours:
        local: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": cores, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()
