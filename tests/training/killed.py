"""Training runs that kill themselves: `python -m tests.training.killed DATA '[["OUT", "POINT", {OPTIONS}], ...]'`.

Each one runs in a process of its own, which is forked after the imports. Prints the points that were not reached.
"""

import json
import os
import shutil
import signal
import sys

import torch
from lightning import Trainer

from pase_msa.models.base import Model
from pase_msa.training import run_folder
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.module import SentimentModule
from pase_msa.training.run import train


def config(data, out, method=None, **training):
    """A run with everything that has state: dropout, balancing from the second epoch on, a learning-rate schedule."""
    options = {
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 0.02,
        "schedule": "cosine",
        "warmup": 0.1,
        "modality_dropout": 0.2,
        "threads": 1,
        "accelerator": "cpu",
    }
    return RunConfig(
        data=str(data),
        out=str(out),
        model={"name": "pase", "width": 8},
        encoders={"default": {"hidden": 8}},
        balancing={} if method is None else {"name": method},
        phases=PhaseConfig(min_epochs=1, patience=1, tolerance=10.0),
        training=TrainingConfig(**(options | training)),
    )


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def is_last(trainer, path, *_):
    return str(path).endswith("last.ckpt")


def nth(function, n, *, after=False, where=lambda *_: True):
    """The function with a kill at its n-th call, before or after it; `where` chooses the calls that are counted."""
    calls = iter(range(1, 10**9))

    def wrapped(*args, **kwargs):
        last = where(*args) and next(calls) == n
        if last and not after:
            die()
        result = function(*args, **kwargs)
        if last:
            die()
        return result

    return wrapped


def _move_between_disks(source, target):
    """Copy a file as a move to another disk does, and die in the middle."""
    with open(source, "rb") as stream:
        content = stream.read()
    with open(target, "wb") as stream:
        stream.write(content[: len(content) // 2])
    die()


def arm(point):
    """Arrange for the process to be killed at a point."""
    kind, _, number = point.partition(":")
    n = int(number or 1)
    if kind == "step":
        SentimentModule.training_step = nth(SentimentModule.training_step, n)
    elif kind == "validation":
        SentimentModule.validation_step = nth(SentimentModule.validation_step, n)
    elif kind == "before-last-checkpoint":
        Trainer.save_checkpoint = nth(Trainer.save_checkpoint, n, where=is_last)
    elif kind == "after-last-checkpoint":
        Trainer.save_checkpoint = nth(Trainer.save_checkpoint, n, where=is_last, after=True)
    elif kind == "saving":
        Model.save_pretrained = nth(Model.save_pretrained, n)
    elif kind == "results":
        from pase_msa.training import run

        run.write_json = nth(run.write_json, n)
    elif kind == "starting":
        run_folder.write_json = nth(run_folder.write_json, n, after=True)
    elif kind == "half-a-checkpoint":
        move, calls = shutil.move, iter(range(1, 10**9))

        def moved(source, target):
            last = str(target).endswith("last.ckpt") and next(calls) == n
            return _move_between_disks(source, target) if last else move(source, target)

        shutil.move = moved
    else:
        raise ValueError(point)


def main():
    data, jobs = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    for out, point, options in jobs:
        child = os.fork()
        if child == 0:
            try:
                arm(point)
                train(config(data, out, **options), progress=False)
            finally:
                os._exit(3)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            print(point)


if __name__ == "__main__":
    main()
