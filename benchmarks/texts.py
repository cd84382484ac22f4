"""Seconds to predict a batch of texts with a fine-tuned language model: padded to the longest, and by length.

    python -m benchmarks.texts --data FOLDER [--model minilm] [--texts 256]

One thread, single precision, weights as published; processor time, the median of three rounds in turn. The texts are
the first ones of the test split, in the order of the data; no label is read.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from pase_msa.data.dataset import evaluation_loader
from pase_msa.data.opening import open_data
from pase_msa.encoders import language_model
from pase_msa.models.base import Model
from pase_msa.training.config import RunConfig
from pase_msa.training.run import prepare


@torch.inference_mode()
def seconds(model: Model, batch: object, at_once: int) -> float:
    """Processor time of a prediction that reads so many texts of similar length together."""
    usual, language_model._ROWS = language_model._ROWS, at_once
    began = time.process_time()
    model(batch)
    language_model._ROWS = usual
    return time.process_time() - began


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = {"model": options.model, "frozen": False}
    config = RunConfig.from_options({"model": {"name": "concat"}, "modalities": ["text"], "text": text})
    table = open_data(options.data)
    model = prepare(config, table).model.eval()
    batch = next(iter(evaluation_loader(model.dataset(table, "test"), options.texts)))
    rounds = [(seconds(model, batch, len(batch)), seconds(model, batch, language_model._ROWS)) for _ in range(3)]
    whole, by_length = (statistics.median(values) for values in zip(*rounds, strict=True))
    figures = f"{whole:.1f} s padded to the longest, {by_length:.1f} s by length"
    print(f"{len(batch)} texts: {figures}, {whole / by_length:.1f} times as fast")


if __name__ == "__main__":
    main()
