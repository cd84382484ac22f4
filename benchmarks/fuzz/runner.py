"""Runs damaged inputs in processes of their own, each with limits, and tells what did not end as it should."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from benchmarks.fuzz.corpus import WRITERS
from benchmarks.fuzz.damage import damage
from pase_msa.data.inspect import inspect_table, render
from pase_msa.data.opening import open_table
from pase_msa.errors import PaSEError
from pase_msa.evaluation.compare import compare
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.models.base import Model
from pase_msa.training.run_folder import RunFolder

SECONDS = 10  # of computing
WAIT = 60  # seconds of the clock, for what waits and computes nothing
MEMORY = 4 * 2**30
LONGEST = 2_000  # characters of a sentence
_SAY = 5_000  # cases from one line of progress to the next


@dataclass
class Report:
    """What a campaign found.

    Attributes:
        cases: number of damaged inputs.
        ended: those that have ended so far.
        seconds: that it took.
        outcomes: "read" and "refused" by kind of input.
        faults: number, kind, how it was damaged, and what happened, of each case that ended otherwise.
    """

    cases: int = 0
    ended: int = 0
    seconds: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[tuple[int, str, str, str]] = field(default_factory=list)


def use(kind: str, path: Path, scratch: Path) -> None:
    """What a user would do with an input."""
    if kind == "model":
        Model.from_pretrained(path)
    elif kind == "run":
        RunFolder.complete(path).history()
        evaluate(path)
        compare([path], [path])
    else:
        table = open_table(path, out=scratch / "converted")
        render(inspect_table(table))
        table.fingerprint()
        _ = table.texts, [table.labels(name) for name in table.schema.labels]
        for name in table.modalities:
            column = table.sequences(name)
            column.padded(np.arange(len(table)))


def case(number: int, seed: int, kinds: Sequence[str], corpus: Path, folder: Path) -> tuple[str, str, str]:
    """One case: kind, how it was damaged, and "" for an end as it should be, or what happened."""
    rng = np.random.default_rng([seed, number])
    kind = kinds[int(rng.integers(len(kinds)))]
    home = folder / "input"
    shutil.copytree(corpus / kind.replace(" ", "_"), home, symlinks=True)
    path = next(home / part for part in _entry(corpus, kind))
    how = "not damaged"
    try:
        how = damage(path if path.is_dir() else home, kind, rng)
        use(kind, path, folder)
    except PaSEError as error:
        return kind, how, _sentence(str(error)) or _leftover(folder)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(frames) if "pase_msa" in f.filename), frames[-1])
        return kind, how, f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {str(error)[:200]!r}"
    return kind, how, "read"


def _entry(corpus: Path, kind: str) -> Iterator[str]:
    yield (corpus / f"{kind.replace(' ', '_')}.entry").read_text()


def _sentence(text: str) -> str:
    """What is wrong with an error sentence, if anything."""
    if len(text) > LONGEST:
        return f"a sentence of {len(text)} characters: {text[:200]!r}"
    if odd := [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\t"]:
        return f"a sentence with the control character {odd[0]!r}: {text[:200]!r}"
    return ""


def _leftover(folder: Path) -> str:
    """A refused conversion must leave nothing that blocks the next one."""
    left = folder / "converted"
    if left.exists() and any(left.iterdir()):
        return f"a refusal left {sorted(p.name for p in left.iterdir())}"
    return ""


def write_corpus(folder: Path, kinds: Sequence[str]) -> None:
    """Every kind of input once, in a folder of its own."""
    for kind in kinds:
        home = folder / kind.replace(" ", "_")
        home.mkdir(parents=True)
        (folder / f"{kind.replace(' ', '_')}.entry").write_text(str(WRITERS[kind](home).relative_to(home)))


def _work(pipe: Connection, numbers: Sequence[int], seed: int, kinds: Sequence[str], corpus: Path) -> None:
    """Cases one after the other; tells each when it begins and when it has ended."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads, and would wait for them
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)

    def too_long(*_: object) -> None:
        raise _TooLong

    signal.signal(signal.SIGPROF, too_long)
    signal.signal(signal.SIGALRM, too_long)
    for number in numbers:
        pipe.send(("begins", number))
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAIT)
        try:
            found = case(number, seed, kinds, corpus, folder)
        except _TooLong:
            found = "?", "?", f"took more than {SECONDS} s, or waited"
        except MemoryError:
            found = "?", "?", f"took more than {MEMORY >> 30} GiB"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            shutil.rmtree(folder, ignore_errors=True)
        pipe.send(("ended", (number, *found)))
    pipe.send(("done", None))


class _TooLong(BaseException):
    """No Exception, so that no reader can take it for a damaged file."""


def _describe(number: int, seed: int, kinds: Sequence[str]) -> str:
    rng = np.random.default_rng([seed, number])
    return kinds[int(rng.integers(len(kinds)))]


def run(cases: int, seed: int = 0, *, jobs: int = 2, kinds: Sequence[str] = (), start: int = 0) -> Report:
    """A campaign of damaged inputs.

    Args:
        cases: how many.
        seed: decides all of them; case n of a seed is the same in every campaign over the same kinds.
        jobs: processes.
        kinds: of input, see `corpus.WRITERS`; all of them if left out.
        start: number of the first case.
    """
    chosen = list(kinds) or list(WRITERS)
    report, began = Report(cases), time.perf_counter()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place)
        write_corpus(corpus, chosen)
        pending = [list(range(start + k, start + cases, jobs)) for k in range(jobs)]
        workers = [_Worker(context, numbers, seed, chosen, corpus) for numbers in pending if numbers]
        while workers:
            for worker in list(workers):
                if worker.step(report):
                    workers.remove(worker)
    report.faults.sort()
    report.seconds = time.perf_counter() - began
    return report


class _Worker:
    """One process and the cases that it still has; a new process takes over where one died."""

    def __init__(self, context: object, numbers: list[int], seed: int, kinds: list[str], corpus: Path) -> None:
        self.context, self.numbers, self.seed, self.kinds, self.corpus = context, numbers, seed, kinds, corpus
        self.current: int | None = None
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = self.context.Pipe()  # type: ignore[attr-defined]
        self.process = self.context.Process(  # type: ignore[attr-defined]
            target=_work, args=(theirs, list(self.numbers), self.seed, self.kinds, self.corpus), daemon=True
        )
        self.process.start()
        theirs.close()
        self.since = time.monotonic()

    def step(self, report: Report) -> bool:
        """Take what there is to take; whether all cases are done."""
        try:
            if self.pipe.poll(0.2):
                what, content = self.pipe.recv()
                self.since = time.monotonic()
                if what == "begins":
                    self.current = content
                elif what == "ended":
                    self._ended(report, *content)
                return bool(what == "done")
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            return self._died(report, f"the process ended by {name}")
        if time.monotonic() - self.since > 2 * WAIT:  # stuck where no signal is heard
            self.process.kill()
            self.process.join()
            return self._died(report, f"took more than {2 * WAIT} s and heard no signal")
        return False

    def _ended(self, report: Report, number: int, kind: str, how: str, what: str) -> None:
        self.numbers.remove(number)
        report.ended += 1
        if report.ended % _SAY == 0:
            print(f"{report.ended} cases, {len(report.faults)} faults", file=sys.stderr, flush=True)
        kind = _describe(number, self.seed, self.kinds) if kind == "?" else kind
        if what in ("", "read"):
            report.outcomes[kind, "read" if what else "refused"] += 1
        else:
            report.faults.append((number, kind, how, what))

    def _died(self, report: Report, what: str) -> bool:
        if self.current in self.numbers:
            number = int(self.current or 0)
            self.numbers.remove(number)
            report.faults.append((number, _describe(number, self.seed, self.kinds), "?", what))
        if self.numbers:
            self._start()
        return not self.numbers
