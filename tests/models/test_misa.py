"""MISA: its losses against naive sums, and what they do to the parts."""

import numpy as np
import pytest
import torch

from pase_msa.models.misa import central_moment_discrepancy, orthogonality
from tests.reference import systems
from tests.toys import NAMES, toy_batch, toy_model

A = torch.tensor([[0.2, 0.4], [0.6, 0.8], [0.1, 0.9]])
B = torch.tensor([[0.3, 0.3], [0.5, 0.7], [0.7, 0.2]])


def test_the_moment_discrepancy_is_that_of_a_naive_sum():
    assert central_moment_discrepancy(A, B) == pytest.approx(0.397737, abs=1e-5)
    assert systems.moment_discrepancy(A.numpy(), B.numpy()) == pytest.approx(0.397737, abs=1e-5)
    assert central_moment_discrepancy(A, B) == central_moment_discrepancy(B, A)


def test_equal_samples_have_no_discrepancy_and_a_finite_gradient():
    x = A.clone().requires_grad_()
    central_moment_discrepancy(x, A).backward()
    assert central_moment_discrepancy(A, A) < 1e-5
    assert x.grad.isfinite().all()


def test_orthogonality_is_that_of_a_naive_sum():
    assert orthogonality(A, B) == pytest.approx(1.112973, abs=1e-4)
    assert systems.orthogonality(A.numpy(), B.numpy()) == pytest.approx(1.112973, abs=1e-4)


def test_a_pair_of_modalities_that_no_two_rows_share_has_no_loss_between_them():
    batch = toy_batch(modalities=NAMES[:2], n=8, missing=False)
    batch.present["text"][4:] = False
    batch.present["audio"][:4] = False
    model = toy_model("misa", modalities=NAMES[:2])
    losses = model.losses(model(batch), batch)
    assert all(value.isfinite() for value in losses.values())


def test_the_losses_between_parts_pull_the_shared_parts_together():
    """Their distributions, and not those of the private parts."""
    torch.manual_seed(0)
    batch = toy_batch(modalities=NAMES[:2], n=32, missing=False)
    batch.features["audio"] = batch.features["audio"] * 0.2 + 2.0

    def distances(similarity):
        model = toy_model("misa", modalities=NAMES[:2], similarity=similarity)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            losses = model.losses(model(batch), batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        private, shared = model.split(model.eval()(batch).vectors)
        return [
            float(central_moment_discrepancy(part["text"].detach(), part["audio"].detach()))
            for part in (private, shared)
        ]

    assert distances(20.0)[1] < 0.6 * distances(0.0)[1]
    assert np.isfinite(distances(0.0)).all()
