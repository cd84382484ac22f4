"""Tasks in worker processes of this machine or of a Ray cluster: each of them ends, whatever becomes of its worker.

Workers share nothing: no queue, no lock, no pipe. Each has a pipe of its own that carries numbers of tasks; arguments
and results are files. So a worker that is killed, stopped or out of memory, at whatever moment, costs its own task. One
thread gives out tasks and collects results, and nothing is dispatched from a callback.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.parallel import Backend, ray_session

#: a task whose worker dies is tried once more, after the others: these may have used up the memory
ATTEMPTS = 2
KILLED = "Its worker process was killed, which mostly means too little memory; give fewer --jobs."
_TICK = 0.5  # seconds between looks at workers that say nothing
_START = (
    "import json, sys; sys.path[:] = json.load(open(sys.argv[1] + '/path')); from pase_msa.tasks import serve; serve()"
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        index: place of its arguments in the list.
        result: what the function returned, or None.
        error: what it raised, or None.
        lost: one sentence, where the worker died or the task took too long; else None.
    """

    index: int
    result: Any = None
    error: Exception | None = None
    lost: str | None = None

    def value(self) -> Any:
        """The result.

        Errors:
            PaSEError: the worker died, or took too long; and whatever the function raised.
        """
        if self.error is not None:
            raise self.error
        if self.lost is not None:
            raise PaSEError(self.lost)
        return self.result


def check_limit(seconds: float | None) -> None:
    """Refuse a time limit that is none.

    Errors:
        PaSEError: it is not a number above 0.
    """
    if seconds is not None and not 0 < seconds < float("inf"):
        raise PaSEError(f"A time limit is a number of seconds above 0, found {seconds}; leave it out for none.")


def run_tasks(
    function: Callable[..., Any],
    arguments: Sequence[Sequence[Any]],
    *,
    jobs: int,
    threads: int = 1,
    backend: Backend = "loky",
    seconds: float | None = None,
) -> Iterator[Outcome]:
    """Call a function once per entry of `arguments` in worker processes; each outcome comes as soon as there is one.

    Args:
        function: importable, or picklable by value (cloudpickle).
        arguments: of each call.
        jobs: worker processes.
        threads: of BLAS and OpenMP in each worker, unless the environment says otherwise; cores of a task on Ray.
        backend: "loky", processes of this machine, or "ray": a Ray cluster (`RAY_ADDRESS`, or a local one).
        seconds: longest duration of one task, the start of its worker included; a task that takes longer is ended with
            its worker and is not tried again. None sets no limit.

    Errors:
        PaSEError: a time limit that is not positive, or Ray is missing.
    """
    check_limit(seconds)
    if not arguments:
        return iter(())
    run = _on_ray if backend == "ray" else _on_this_machine
    return run(function, list(arguments), jobs, threads, seconds)


def _too_long(seconds: float | None) -> str:
    return f"It took longer than the limit of {seconds:g} s; raise --timeout, or see what it waits for."


class _Worker:
    """A process with a pipe in each direction; it is told a number of a task and says that number when it is done."""

    def __init__(self, folder: str, threads: int) -> None:
        self.task: int | None = None
        self.since = 0.0
        self.reports, theirs = os.pipe()
        environment = {**dict.fromkeys(_THREADS, str(threads)), **os.environ}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, folder, str(theirs)],
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
                env=environment,
            )
        except BaseException:
            os.close(self.reports)
            raise
        finally:
            os.close(theirs)

    def give(self, task: int) -> None:
        """Start a task; a worker that cannot hear is found dead at the next look."""
        self.task, self.since = task, time.monotonic()
        assert self.process.stdin is not None
        try:
            os.write(self.process.stdin.fileno(), f"{task}\n".encode())
        except BrokenPipeError:
            self.process.kill()

    def end(self) -> int:
        """Kill it and give its exit status."""
        self.process.kill()
        status = self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self.reports)
        return status


def serve() -> None:
    """What a worker does: the tasks whose numbers it reads, until its standard input ends."""
    folder, reports = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(reports, False)
    sys.argv[1:] = []
    orders = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a task that reads standard input must not take the orders
    function: Callable[..., Any] | None = None
    try:
        for line in iter(orders.readline, b""):
            task = int(line)
            try:
                function = function or pickle.loads((folder / "function").read_bytes())  # what the parent pickled
                answer = ("result", function(*pickle.loads((folder / f"{task}.in").read_bytes())))
                content = _pickled(answer)
            except Exception as error:
                content = _pickled_error(error)
            (folder / f"{task}.out").write_bytes(content)
            os.write(reports, b".")
    except (KeyboardInterrupt, BrokenPipeError, FileNotFoundError):
        pass  # the parent was interrupted, or is gone with its folder


def _pickled(content: Any) -> bytes:
    import cloudpickle

    return bytes(cloudpickle.dumps(content))


def _pickled_error(error: Exception) -> bytes:
    """An exception as bytes; one that cannot be pickled and read again is told by its type and message."""
    try:
        content = _pickled(("error", error))
        pickle.loads(content)
    except Exception:
        content = pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}")))
    return content


def _on_this_machine(
    function: Callable[..., Any], arguments: list[Sequence[Any]], jobs: int, threads: int, seconds: float | None
) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="pase-tasks-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        (root / "path").write_text(json.dumps([os.path.abspath(entry) for entry in sys.path]))
        (root / "function").write_bytes(_pickled(function))
        queue = deque(range(len(arguments)))
        attempts = dict.fromkeys(queue, 0)
        workers: list[_Worker] = []
        try:
            while queue or any(worker.task is not None for worker in workers):
                idle = [worker for worker in workers if worker.task is None]
                while queue and (idle or len(workers) < jobs):
                    if not idle:
                        workers.append(_Worker(folder, threads))
                        idle = workers[-1:]
                    task = queue.popleft()
                    attempts[task] += 1
                    (root / f"{task}.in").write_bytes(_pickled(tuple(arguments[task])))
                    idle.pop().give(task)
                for worker, ended in _ended(workers, seconds):
                    task, worker.task = worker.task, None  # type: ignore[assignment]
                    if ended == "done":
                        yield _read(root, task)
                        continue
                    workers.remove(worker)
                    status = worker.end()
                    if ended == "late":
                        yield Outcome(task, lost=_too_long(seconds))
                    elif attempts[task] < ATTEMPTS:
                        queue.append(task)
                    else:
                        yield Outcome(task, lost=_why(status))
        finally:  # also when whoever iterates stops early
            for worker in workers:
                worker.end()


def _why(status: int) -> str:
    return KILLED if status < 0 else f"Its worker process ended itself with status {status}; see its messages."


def _ended(workers: Sequence[_Worker], seconds: float | None) -> list[tuple[_Worker, str]]:
    """Workers with a task that is "done", whose process is "dead", or that is "late"; empty when none is yet."""
    busy = [worker for worker in workers if worker.task is not None]
    poll = select.poll()
    for worker in busy:
        poll.register(worker.reports, select.POLLIN)
    heard = {descriptor for descriptor, _ in poll.poll(_TICK * 1000)}
    found = []
    for worker in busy:
        # no bytes at the end of the pipe: the worker is dead. A child of it may keep the pipe open, so look at it too
        dead = worker.process.poll() is not None
        if worker.reports in heard:
            found.append((worker, "done" if os.read(worker.reports, 1) else "dead"))
        elif dead and not select.select([worker.reports], [], [], 0)[0]:
            found.append((worker, "dead"))
        elif seconds is not None and time.monotonic() - worker.since > seconds:
            found.append((worker, "late"))
    return found


def _read(root: Path, task: int) -> Outcome:
    for name in (root / f"{task}.in", root / f"{task}.out"):
        content = name.read_bytes()
        name.unlink()
    try:
        kind, value = pickle.loads(content)
    except Exception as error:
        return Outcome(task, error=error)
    return Outcome(task, value) if kind == "result" else Outcome(task, error=value)


def _on_ray(
    function: Callable[..., Any], arguments: list[Sequence[Any]], jobs: int, threads: int, seconds: float | None
) -> Iterator[Outcome]:
    with ray_session(jobs * threads):
        import ray

        remote = ray.remote(num_cpus=threads, max_retries=ATTEMPTS - 1, retry_exceptions=False)(function)
        queue = deque(range(len(arguments)))
        running: dict[Any, tuple[int, float]] = {}
        while queue or running:
            while queue and len(running) < jobs:
                index = queue.popleft()
                running[remote.remote(*arguments[index])] = index, time.monotonic()
            done, _ = ray.wait(list(running), num_returns=1, timeout=None if seconds is None else _TICK)
            for reference in done:
                yield _of_ray(reference, running.pop(reference)[0])
            late = [r for r, (_, since) in running.items() if seconds and time.monotonic() - since > seconds]
            for reference in late:
                ray.cancel(reference, force=True)
                yield Outcome(running.pop(reference)[0], lost=_too_long(seconds))


def _of_ray(reference: Any, index: int) -> Outcome:
    import ray

    try:
        return Outcome(index, ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        return Outcome(index, error=error.cause if isinstance(error.cause, Exception) else error)
    except ray.exceptions.RayError:
        return Outcome(index, lost=KILLED)
