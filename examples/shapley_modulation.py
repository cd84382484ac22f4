"""Shapley modulation on your own LightningModule: two modalities, one optimiser, a schedule, nothing of ours."""

import logging
import warnings

import lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pase_msa import ShapleyModulation

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
torch.manual_seed(0)

NAMES = ("text", "audio")
labels = torch.randint(0, 3, (512,))
text = F.one_hot(labels, 3) + 0.6 * torch.randn(512, 3)  # strong
audio = F.one_hot(labels, 3) + 1.5 * torch.randn(512, 3)  # weaker


class TwoStream(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleDict({name: nn.Sequential(nn.Linear(3, 16), nn.GELU()) for name in NAMES})
        self.head = nn.Linear(32, 3)

    def forward(self, inputs, coalition=NAMES):
        vectors = [self.streams[name](inputs[name]) * (name in coalition) for name in NAMES]
        return self.head(torch.cat(vectors, dim=1))

    def training_step(self, batch, index):
        return F.cross_entropy(self(dict(zip(NAMES, batch[:2], strict=True))), batch[2])

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=3)]


held_out = {"text": text[384:], "audio": audio[384:]}


def utility(module, coalition):
    """How much better than guessing the coalition is on held-out data, in nats."""
    with torch.no_grad():
        loss = F.cross_entropy(module(held_out, coalition), labels[384:])
    return float(torch.log(torch.tensor(3.0)) - loss)


modulation = ShapleyModulation(
    utility=utility, modalities=NAMES, parameters=lambda module, name: module.streams[name].parameters()
)
trainer = lightning.Trainer(
    max_epochs=5,
    accelerator="cpu",
    callbacks=[modulation],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(TwoStream(), DataLoader(TensorDataset(text[:384], audio[:384], labels[:384]), batch_size=32, shuffle=True))

print("epoch  psi (text, audio)   phi (text, audio): factors of the next epoch's learning rates")
for row in modulation.history:
    psi, phi = row["psi"], row["phi"]
    print(f"{row['epoch']:5d}  {psi['text']:+.3f}, {psi['audio']:+.3f}      {phi['text']:.3f}, {phi['audio']:.3f}")
