"""Lightning's trainer as a run needs it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import DDPStrategy

from pase_msa.errors import PaSEError
from pase_msa.ranges import one_of
from pase_msa.training.config import TrainingConfig
from pase_msa.training.processes import devices_and_nodes

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


def build_trainer(options: TrainingConfig, **more: Any) -> lightning.Trainer:
    """Lightning's trainer.

    Args:
        options: epochs, clipping, hardware and precision.
        more: further arguments of `lightning.Trainer`.

    Errors:
        PaSEError: the hardware that the options name is not there.
    """
    check_hardware(options)

    devices, nodes = devices_and_nodes(options.devices)

    def build(**strategy: Any) -> lightning.Trainer:
        return lightning.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision="32-true",  # the model itself runs its encoders in the precision of the options
            max_epochs=options.epochs,
            gradient_clip_val=options.gradient_clip or None,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # `EpochBatchSampler` shares the utterances out itself
            log_every_n_steps=1_000_000,  # what is logged is logged per epoch
            **more,
            **strategy,
        )

    try:
        trainer = build()
        if trainer.world_size == 1:
            return trainer
        if options.threads:  # the processes that this one starts read it when they import torch
            os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
        # A process's batch may hold no utterance with some modality. Its encoder then gets no gradient in this process,
        # which DistributedDataParallel takes for an error unless it is told to expect it. Buffers are equal in all
        # processes, since what changes them is summed over processes (prototypes, weights of modalities). Sending them
        # before every pass would send the whole reference, which is larger than the network.
        return build(strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False))
    except (ValueError, MisconfigurationException) as error:
        raise PaSEError(f"training.accelerator, devices do not go here: {error}") from error


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's hints and torch's notes on data loaders, which a user of `pase` cannot act on."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def check_hardware(options: TrainingConfig) -> None:
    """Refuse an accelerator or a number of devices that this machine does not have.

    Errors:
        PaSEError: which one, and what there is.
    """
    names = ("auto", *sorted(AcceleratorRegistry.available_accelerators()), "gpu")
    name = one_of(options.accelerator, dict.fromkeys(names), "training.accelerator")
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if name in ("gpu", "cuda", "mps", "tpu") and not has_gpu:
        raise PaSEError(f"training.accelerator is {name!r}, but this machine has none; take cpu or auto.")
    devices_and_nodes(options.devices)  # which refuses those that torchrun did not start
    devices = str(options.devices)
    if devices == "auto":
        return
    if not devices.lstrip("+").isdecimal() or int(devices) < 1:
        raise PaSEError(f"training.devices is auto or a number of 1 or more, found {options.devices!r}.")
    on_gpu = has_gpu and name != "cpu"
    there = (torch.cuda.device_count() or 1) if on_gpu else (os.cpu_count() or 1)
    if int(devices) > there:
        raise PaSEError(
            f"training.devices is {devices}, but this machine has {there} {'GPUs' if on_gpu else 'processor cores'}; "
            f"give {there} or fewer."
        )
