"""Where parallel work runs (processes of this machine or a Ray cluster, through joblib), and on how many threads."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

from joblib import parallel_config
from threadpoolctl import threadpool_limits

from pase_msa.errors import PaSEError

Backend = Literal["loky", "ray"]


@contextlib.contextmanager
def threads(count: int | None, *, numpy: bool = False) -> Iterator[None]:
    """Torch's threads for a while, and NumPy's if asked for; None leaves them. Serves as a decorator too.

    Sums in another order round differently, so what must come out the same everywhere is computed on one thread.
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
def parallel_backend(backend: Backend, jobs: int, threads: int) -> Iterator[None]:
    """joblib's backend, and a Ray of our own where none is running."""
    if backend == "loky":
        # workers of a killed run leave soon after their task
        with parallel_config(backend="loky", idle_worker_timeout=20):
            yield
        return
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise PaSEError("The backend 'ray' needs Ray: pip install 'pase-msa[ray]', or take --backend loky.") from error
    register_ray()  # type: ignore[no-untyped-call]
    ours = not ray.is_initialized()
    if ours:
        local: dict[str, Any] = (
            {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": jobs * threads, "include_dashboard": False}
        )
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        with parallel_config(backend="ray", ray_remote_args={"num_cpus": threads}):
            yield
    finally:
        if ours:
            ray.shutdown()
