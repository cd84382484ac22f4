"""A fusion of your own, found by "package.module:attribute"; nothing is registered.

What a plug-in of kind "fusion" offers is `build(modalities, width, dropout)`. `python examples/new_fusion.py`
puts this folder on Python's path, so that it finds the module `new_fusion`; elsewhere PYTHONPATH does. In a
YAML it is `model: {name: pase, fusion: "new_fusion:MaxFusion"}`.
"""

import numpy as np
import torch
from torch import nn

from pase_msa import PaSERegressor
from pase_msa.fusion.base import Fused, Fusion


class MaxFusion(Fusion):
    """The largest value of each dimension over the modalities; an absent modality has no part in it."""

    def __init__(self, width, dropout):
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout))

    @classmethod
    def build(cls, modalities, width, dropout):
        return cls(width, dropout)

    def forward(self, vectors, weights, prototypes, present):
        lowest = torch.finfo(torch.float32).min
        stacked = [vectors[name].masked_fill(~present[name].unsqueeze(1), lowest) for name in vectors]
        largest = torch.stack(stacked).amax(0)
        anything = torch.stack([present[name] for name in vectors]).any(0).unsqueeze(1)
        return Fused(self.mix(torch.where(anything, largest, 0.0)))


def main():
    rng = np.random.default_rng(0)
    mood = rng.uniform(-3, 3, 160)
    X = {name: mood[:, None] + rng.standard_normal((160, 3)) for name in ("text", "audio", "vision")}
    train, test = ({name: values[part] for name, values in X.items()} for part in (slice(120), slice(120, None)))
    for fusion in ("gated", "new_fusion:MaxFusion"):
        model = PaSERegressor(model_options={"fusion": fusion}, epochs=12, learning_rate=5e-3)
        model.fit(train, mood[:120])
        kind = type(model.model_.fusion).__name__
        print(f"{fusion}: {kind}, R2 {model.score(test, mood[120:]):.2f}")


if __name__ == "__main__":
    main()
