"""Seconds per epoch of a model of MMSA 2.2.1; runs alone, in the environment that `benchmarks.peers` makes.

    PYTHON mmsa_driver.py MODEL FILE EPOCHS FOLDER

Three obstacles are taken from outside, and MMSA is not changed: `torch.cuda.set_device` refuses a CPU; a scheduler's
argument `verbose` is gone from torch; there is no largest number of epochs, so that the log's line of an epoch's
validation is where training is stopped.
"""

import contextlib
import json
import logging
import os
import sys
import time
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import torch

torch.set_num_threads(1)


class Enough(Exception):
    """As many epochs as were asked for."""


class Clock(logging.Handler):
    """Notes when an epoch's validation is logged."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs, self.times = epochs, []

    def emit(self, record: logging.LogRecord) -> None:
        """Take the time at an epoch's end."""
        if record.getMessage().startswith("VAL"):
            self.times.append((time.perf_counter(), time.process_time()))
            if len(self.times) > self.epochs:
                raise Enough


def main(model: str, file: str, epochs: int, folder: Path) -> None:
    """Train, and print the seconds of each epoch but the first, whose beginning is not logged."""
    torch.cuda.set_device = lambda *_: None
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau
    torch.optim.lr_scheduler.ReduceLROnPlateau = lambda *a, verbose=None, **k: scheduler(*a, **k)
    import MMSA.run
    from easydict import EasyDict
    from MMSA import get_config_regression
    from MMSA.utils import setup_seed

    options = get_config_regression(model, "mosi")
    options.update(featurePath=file, custom_feature=None, feature_T="", feature_A="", feature_V="")
    options.update(train_mode="regression", device=torch.device("cpu"), cur_seed=1, early_stop=epochs + 2)
    # without this it asks for the lengths of audio and vision, which files of aligned features do not have
    options.update(need_data_aligned=Path(file).stem == "aligned")
    options.update(model_save_path=folder / f"{model}.pth", model_save_dir=str(folder))
    clock = Clock(epochs)
    logger = logging.getLogger("MMSA")
    logger.setLevel(logging.INFO)
    logger.addHandler(clock)
    setup_seed(1111)
    with contextlib.suppress(Enough):
        MMSA.run._run(EasyDict(options), num_workers=0)
    pairs = list(zip(clock.times, clock.times[1:], strict=False))
    wall, cpu = ([after[i] - before[i] for before, after in pairs] for i in (0, 1))
    print(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
