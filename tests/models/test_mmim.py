"""MMIM: both bounds against naive loops, who learns from which, and what the likelihood tells of two modalities."""

import numpy as np
import pytest
import torch

from pase_msa.models.mmim import GaussianPair, contrastive_estimation, gaussian_entropy
from tests.reference import mmim
from tests.toys import NAMES, toy_batch, toy_model

OTHERS = NAMES[1:]  # text is the hub


def layers_of(sequence):
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (sequence[0], sequence[2])]


def test_the_likelihood_is_that_of_a_naive_loop():
    torch.manual_seed(0)
    pair, (x, y) = GaussianPair(4), 3 * torch.randn(2, 6, 4)
    expected = mmim.likelihood(x.numpy(), y.numpy(), layers_of(pair.mean), layers_of(pair.log_variance))
    assert float(pair(x, y).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_entropy_is_that_of_a_naive_covariance():
    samples = torch.randn(7, 3, dtype=torch.float64)
    assert float(gaussian_entropy(samples)) == pytest.approx(mmim.entropy(samples.numpy(), 1e-2), rel=1e-9)


def test_the_entropy_of_equal_samples_is_finite():
    assert float(gaussian_entropy(torch.ones(5, 2))) == pytest.approx(np.log(1e-2), rel=1e-4)


def test_the_contrast_is_that_of_a_naive_loop():
    x, guess = torch.randn(2, 5, 4)
    assert float(contrastive_estimation(x, guess)) == pytest.approx(mmim.contrast(x.numpy(), guess.numpy()), rel=1e-5)


def test_the_contrast_of_two_orthonormal_vectors_with_themselves():
    assert float(contrastive_estimation(torch.eye(2), torch.eye(2))) == pytest.approx(0.31326, abs=1e-5)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_losses_are_those_of_naive_loops_over_the_utterances_that_have_both(kind):
    model, batch = toy_model("mmim", kind, contrast=0.3, bound=0.7), toy_batch(kind, n=36)
    batch.present["text"][5] = False
    outputs = model(batch)
    losses = {name: float(value.detach()) for name, value in model.losses(outputs, batch).items()}
    vectors = {name: vector.detach() for name, vector in outputs.vectors.items()}
    contrast = bound = likelihoods = 0.0
    for name in NAMES:
        kept = batch.present[name]
        guess = model.guesses[name](outputs.fused[kept]).detach().numpy()
        contrast += mmim.contrast(vectors[name][kept].numpy(), guess)
    for name in OTHERS:
        both = batch.present["text"] & batch.present[name]
        x, y, labels = vectors["text"][both].numpy(), vectors[name][both], batch.labels[both].numpy()
        pair = model.pairs[name]
        likelihood = mmim.likelihood(x, y.numpy(), layers_of(pair.mean), layers_of(pair.log_variance))
        samples = model.entropies[name](y).detach().numpy()
        signs = [labels > 0, labels < 0] if kind == "regression" else [labels == number for number in range(3)]
        entropy = sum(mmim.entropy(samples[group], 1e-2) for group in signs) / len(signs)
        bound, likelihoods = bound + likelihood + entropy, likelihoods + likelihood
    assert losses["contrast"] == pytest.approx(0.3 * contrast, rel=1e-4)
    assert losses["bound"] == pytest.approx(-0.7 * bound, rel=1e-4)
    assert losses["likelihood"] == pytest.approx(-likelihoods, rel=1e-4)


def moved(model, loss):
    """The parts of a model that a loss has a gradient for."""
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    named = zip(model.named_parameters(), gradients, strict=True)
    return {name.split(".")[0] for (name, _), gradient in named if gradient is not None and gradient.abs().sum() > 0}


def test_the_likelihood_trains_its_modules_alone_and_the_bound_everything_but_them():
    batch, model = toy_batch(n=24), toy_model("mmim")
    for name, expected in (("likelihood", {"pairs"}), ("bound", {"encoders", "entropies"})):
        assert moved(model, model.losses(model(batch), batch)[name]) == expected


def test_groups_of_fewer_than_five_rows_have_no_entropy():
    model, batch = toy_model("mmim", bound=1.0), toy_batch(n=12, missing=False)
    batch.labels = torch.tensor([-1.0] * 4 + [1.0] * 4 + [0.0] * 4)
    losses = model.losses(model(batch), batch)
    torch.testing.assert_close(losses["bound"], losses["likelihood"])
    batch.labels[8] = 1.0
    assert not torch.isclose(model.losses(model(batch), batch)["bound"], losses["bound"])


def test_one_modality_alone_has_no_bound():
    model, batch = toy_model("mmim", modalities=NAMES[:1]), toy_batch(modalities=NAMES[:1])
    assert set(model.losses(model(batch), batch)) == {"class", "score", "contrast"}


def gain_over_a_constant(shared):
    """Of the likelihood of new rows over that of a Gaussian that knows nothing of x, after training."""

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        x, noise = torch.randn(2, 256, 4, generator=generator)
        return x, 0.8 * x.roll(1, dims=1) + 0.6 * noise if shared else noise

    torch.manual_seed(0)
    pair, (x, y) = GaussianPair(4), drawn(0)
    optimizer = torch.optim.Adam(pair.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        (-pair(x, y)).backward()
        optimizer.step()
    with torch.no_grad():
        x, y = drawn(1)
        return float(pair(x, y)) + (float(y.var()) + float(y.mean()) ** 2) / 2


def test_the_likelihood_beats_a_constant_where_one_vector_tells_of_the_other_and_not_else():
    assert gain_over_a_constant(shared=True) > 0.2
    assert gain_over_a_constant(shared=False) < 0.0
