"""Entropy-guided weights: eq. 10 and 11 against loops, their two readings, and that evaluation leaves them alone."""

import numpy as np
import pytest
import torch

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.models.pase import Config
from pase_msa.weighting import EntropyWeighting, certainty
from tests.reference import prototypes as oracle
from tests.toys import toy_batch, toy_model, train_steps

K = 4
SIGNS = ("confidence", "literal")
CERTAIN = torch.tensor([[0.97, 0.01, 0.01, 0.01]])
CLUELESS = torch.tensor([[0.4, 0.2, 0.2, 0.2]])
FIRST = torch.tensor([[1.0, 0.0, 0.0, 0.0]])


def random_posterior(n, seed):
    return torch.randn(n, K, generator=torch.Generator().manual_seed(seed)).softmax(1)


def flags(*values):
    return torch.tensor(values, dtype=torch.bool)


@pytest.mark.parametrize("sign", SIGNS)
def test_certainty_agrees_with_eq_10(sign):
    posterior, membership = random_posterior(6, 0), random_posterior(6, 1)
    expected = oracle.certainty(posterior.numpy(), membership.numpy(), sign == "literal")
    np.testing.assert_allclose(certainty(posterior, membership, sign).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("sign", SIGNS)
def test_weights_agree_with_eq_11(sign):
    names = ("text", "audio", "vision")
    weighting = EntropyWeighting(names, sign, momentum=0.8)
    level = None
    for step in range(3):
        posteriors = {name: random_posterior(5, 10 * step + i) for i, name in enumerate(names)}
        membership = random_posterior(5, 99 + step)
        weighting.update(posteriors, membership, {name: flags(1, 1, 1, 1, 1) for name in names})
        newest = np.array(
            [oracle.certainty(posteriors[n].numpy(), membership.numpy(), sign == "literal").mean() for n in names]
        )
        level = newest if level is None else 0.8 * level + 0.2 * newest
    np.testing.assert_allclose([float(weighting()[name]) for name in names], oracle.softmax(level), atol=1e-5)


def weights_of(sign):
    weighting = EntropyWeighting(("sure", "unsure"), sign)
    weighting.update({"sure": CERTAIN, "unsure": CLUELESS}, FIRST, {"sure": flags(1), "unsure": flags(1)})
    return weighting()


def test_confidence_gives_the_certain_modality_the_larger_weight():
    weights = weights_of("confidence")
    assert weights["sure"] > weights["unsure"] + 0.1


def test_the_literal_reading_gives_the_uncertain_modality_the_larger_weight():
    weights = weights_of("literal")
    assert weights["unsure"] > weights["sure"] + 0.05


def test_the_certainty_of_one_class_is_one_and_of_a_uniform_posterior_zero():
    ends = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert torch.allclose(certainty(ends, FIRST.expand(2, -1), "confidence"), torch.tensor([1.0, 0.0]), atol=1e-6)


def test_weights_begin_equal_and_always_add_up_to_one():
    weighting = EntropyWeighting(("a", "b", "c"))
    assert torch.allclose(torch.stack(list(weighting().values())), torch.full((3,), 1 / 3))
    posteriors = {name: random_posterior(4, i) for i, name in enumerate("abc")}
    weighting.update(posteriors, FIRST.expand(4, -1), {name: flags(1, 1, 0, 1) for name in "abc"})
    assert float(torch.stack(list(weighting().values())).sum()) == pytest.approx(1, abs=1e-6)


def test_absent_rows_do_not_count():
    one, two = EntropyWeighting(("a", "b")), EntropyWeighting(("a", "b"))
    posterior, membership = random_posterior(3, 0), random_posterior(3, 1)
    one.update({"a": posterior, "b": posterior}, membership, {"a": flags(1, 0, 1), "b": flags(1, 0, 1)})
    rows = [0, 2]
    two.update({"a": posterior[rows], "b": posterior[rows]}, membership[rows], {"a": flags(1, 1), "b": flags(1, 1)})
    assert torch.allclose(one.level, two.level)


def test_without_flags_every_row_counts():
    one, two = EntropyWeighting(("a", "b")), EntropyWeighting(("a", "b"))
    posteriors, membership = torch.stack([random_posterior(3, 0), random_posterior(3, 1)]), random_posterior(3, 2)
    one.blend(posteriors, membership, None)
    two.blend(posteriors, membership, torch.ones(2, 3, dtype=torch.bool))
    assert torch.allclose(one.level, two.level)
    assert one.seen.all()


def test_a_modality_that_is_absent_throughout_keeps_its_level():
    weighting = EntropyWeighting(("a", "b"))
    both = {"a": random_posterior(2, 0), "b": random_posterior(2, 1)}
    weighting.update(both, FIRST.expand(2, -1), {"a": flags(1, 1), "b": flags(1, 1)})
    before = weighting.level.clone()
    other = {"a": random_posterior(2, 2), "b": random_posterior(2, 3)}
    weighting.update(other, FIRST.expand(2, -1), {"a": flags(1, 1), "b": flags(0, 0)})
    assert weighting.level[1] == before[1]
    assert weighting.level[0] != before[0]


@pytest.mark.parametrize("sign", SIGNS)
def test_predicting_does_not_move_the_weights(sign):
    model = train_steps(toy_model(entropy_sign=sign), [toy_batch(seed=seed) for seed in range(2)]).eval()
    before = model.weighting.level.clone()
    outputs = model(toy_batch(seed=7))
    assert torch.equal(model.weighting.level, before)
    assert torch.equal(torch.stack(list(outputs.weights.values())), before.softmax(0))


def test_training_moves_the_weights():
    model = train_steps(toy_model(), [toy_batch()])
    before = model.weighting.level.clone()
    train_steps(model, [toy_batch(seed=3)])
    assert not torch.equal(model.weighting.level, before)


def test_another_reading_is_refused():
    with pytest.raises(PaSEError, match="entropy_sign"):
        plugins.configure(Config, {"entropy_sign": "doubt"}, "The model pase")


def test_uniform_weights_are_equal_whatever_the_posteriors_are():
    weights = weights_of("uniform")
    assert [float(value) for value in weights.values()] == [0.5, 0.5]
