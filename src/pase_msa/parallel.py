"""Where parallel work runs, and on how many threads: processes of this machine or a Ray cluster, through joblib."""

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
def parallel_backend(backend: Backend, jobs: int, threads: int) -> Iterator[None]:
    """Choose joblib's backend inside the block; where no Ray is running, start one and stop it at the end.

    Args:
        backend: "loky" for processes of this machine, or "ray".
        jobs: worker processes.
        threads: per worker.

    Errors:
        PaSEError: Ray is not installed.
    """
    if backend == "loky":
        # after 20 s without a task a worker ends, so that those of a killed run do not stay
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
