"""HyCon: its losses against the values of a naive sum, and what they do to the vectors."""

import pytest
import torch
from torch.nn import functional as F

from pase_msa.models.hycon import ratio_loss
from tests.reference import systems
from tests.toys import NAMES, toy_batch, toy_model

TEXT = torch.tensor([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
AUDIO = torch.tensor([[0.0, 1.0], [0.7071, 0.7071], [1.0, 0.0]])
SAME = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_the_loss_within_a_modality_is_that_of_a_naive_sum():
    found = ratio_loss(TEXT @ TEXT.T, SAME, ~torch.eye(3, dtype=torch.bool), 1.0)
    assert found == pytest.approx(-0.57882, abs=1e-5)
    assert found == pytest.approx(systems.ratio_loss(TEXT.numpy(), TEXT.numpy(), SAME.numpy(), 1.0), abs=1e-6)


def test_across_modalities_the_target_is_the_margin():
    found = ratio_loss(TEXT @ AUDIO.T, SAME, ~torch.eye(3, dtype=torch.bool), 0.8)
    assert found == pytest.approx(systems.ratio_loss(TEXT.numpy(), AUDIO.numpy(), SAME.numpy(), 0.8), abs=1e-6)


def test_anchors_without_positives_are_left_out():
    alone = torch.eye(3)
    assert ratio_loss(TEXT @ TEXT.T, alone, ~torch.eye(3, dtype=torch.bool), 1.0) == 0


def test_modalities_of_an_utterance_come_near_the_margin_and_not_nearer():
    torch.manual_seed(0)
    batch = toy_batch(modalities=NAMES[:2], n=32, missing=False)
    model = toy_model("hycon", modalities=NAMES[:2], together=20.0, margin=0.8)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        losses = model.losses(model(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    vectors = model.eval()(batch).vectors
    cosine = F.cosine_similarity(vectors["text"], vectors["audio"]).detach()
    assert float(((1 + cosine) / 2).mean()) == pytest.approx(0.8, abs=0.05)
