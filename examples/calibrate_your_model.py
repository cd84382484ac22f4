"""Prototype calibration and transport alignment inside your own torch training loop."""

import torch
from torch import nn
from torch.nn import functional as F

from pase_msa import PrototypeBank, alignment_loss, calibration_loss

torch.manual_seed(0)
CLASSES, DIM, NAMES = 4, 16, ("text", "audio")
labels = torch.randint(0, CLASSES, (600,))
codes = {name: torch.randn(CLASSES, 10) for name in NAMES}
inputs = {name: codes[name][labels] + 1.5 * torch.randn(600, 10) for name in NAMES}


def agreement(bank):
    """Mean cosine of the prototypes that two modalities have of the same class."""
    text, audio = bank.prototypes
    return F.cosine_similarity(text, audio).mean()


def train(weight):
    torch.manual_seed(1)
    encoders = {name: nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, DIM)) for name in NAMES}
    bank = PrototypeBank(CLASSES, DIM, momentum=0.9, modalities=len(NAMES))
    head = nn.Linear(len(NAMES) * DIM, CLASSES)
    parameters = [*head.parameters(), *(p for encoder in encoders.values() for p in encoder.parameters())]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(12):
        for rows in torch.randperm(480).split(48):
            vectors = torch.stack([encoders[name](inputs[name][rows]) for name in NAMES])  # [2, 48, DIM]
            loss = F.cross_entropy(head(torch.cat(list(vectors), dim=1)), labels[rows])
            # the value is the moving average, the gradient is that of the batch's own class means
            after = bank.blend(vectors, labels[rows])
            loss = loss + weight * calibration_loss(vectors, after.prototypes.detach(), labels[rows], 0.1).sum()
            loss = loss + weight * alignment_loss(dict(zip(NAMES, after.prototypes, strict=True)))
            bank.take(after)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        joint = torch.cat([encoders[name](inputs[name][480:]) for name in NAMES], dim=1)
        accuracy = (head(joint).argmax(1) == labels[480:]).float().mean()
    return accuracy, agreement(bank)


for weight in (0.0, 0.3):
    accuracy, cosine = train(weight)
    print(f"weight {weight}: accuracy {accuracy:.2f}, cosine of text's and audio's prototypes {cosine:+.2f}")
