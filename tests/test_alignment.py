import math

import pytest
import torch

from pase_msa.alignment import alignment_loss, alignment_terms
from pase_msa.errors import PaSEError
from pase_msa.transport import entropic_plan
from tests.reference.alignment import alignment

NAMES = ("text", "audio", "vision")


def prototypes(*names, classes=4, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(classes, width, generator=generator, dtype=torch.float64).requires_grad_() for name in names
    }


@pytest.mark.parametrize("relaxation", [math.inf, 0.2])
@pytest.mark.parametrize("names", [NAMES[:2], NAMES])
def test_agrees_with_the_equations(relaxation, names):
    given = prototypes(*names)
    marginals = "balanced" if relaxation == math.inf else "source"
    loss = alignment_loss(given, 0.1, 0.3, 0.07, marginals=marginals, relaxation=relaxation)
    oracle = alignment({name: value.detach().numpy() for name, value in given.items()}, 0.1, 0.3, 0.07, relaxation)
    assert loss.item() == pytest.approx(oracle, abs=1e-5)


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_terms_and_pairs_add_up(marginals):
    given = prototypes(*NAMES)
    terms = alignment_terms(given, 0.05, 0.3, 0.07, marginals=marginals)
    assert list(terms.pairs) == [("text", "audio"), ("text", "vision"), ("audio", "vision")]
    assert terms.converged
    parts = terms.match + 0.3 * terms.consistency + 0.07 * terms.structure
    assert torch.allclose(terms.loss, parts)
    assert torch.allclose(terms.loss, torch.stack(list(terms.pairs.values())).sum())
    for (m, n), loss in terms.pairs.items():
        alone = alignment_loss({m: given[m], n: given[n]}, 0.05, 0.3, 0.07, marginals=marginals)
        assert torch.allclose(loss, alone, atol=1e-6)


def test_balanced_directions_are_one_plan():
    given = prototypes("text", "audio")
    assert alignment_terms(given).consistency == 0
    a, b = (torch.nn.functional.normalize(given[name], dim=-1) for name in ("text", "audio"))
    forth = entropic_plan(torch.cdist(a, b).square(), 0.01, tolerance=1e-10).plan
    back = entropic_plan(torch.cdist(b, a).square(), 0.01, tolerance=1e-10).plan
    assert torch.allclose(forth, back.mT, atol=1e-8)


def test_source_directions_differ():
    assert alignment_terms(prototypes("text", "audio"), marginals="source", relaxation=0.1).consistency > 1e-2


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_order_of_modalities_does_not_matter(marginals):
    given = prototypes(*NAMES)
    turned = {name: given[name] for name in reversed(NAMES)}
    forth = alignment_loss(given, 0.05, marginals=marginals)
    assert torch.allclose(forth, alignment_loss(turned, 0.05, marginals=marginals), atol=1e-5)


def test_scale_of_prototypes_does_not_matter():
    given = prototypes(*NAMES)
    scaled = {name: 7.0 * value for name, value in given.items()}
    assert torch.allclose(alignment_loss(given, 0.05), alignment_loss(scaled, 0.05))


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_equal_prototypes_cost_nothing(marginals):
    value = torch.linalg.qr(torch.randn(6, 4, generator=torch.Generator().manual_seed(0))).Q.T
    loss = alignment_loss(dict.fromkeys(NAMES, value), marginals=marginals)
    assert 0 <= loss.item() < 1e-6


@pytest.mark.parametrize("marginals", ["balanced", "source"])
@pytest.mark.parametrize(("consistency", "structure"), [(0.1, 0.05), (0.0, 0.0)])
def test_gradient_reaches_every_prototype(marginals, consistency, structure):
    given = prototypes(*NAMES)
    alignment_loss(given, 0.1, consistency, structure, marginals=marginals).backward()
    for value in given.values():
        assert (value.grad.norm(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_gradient_is_right(marginals):
    given = prototypes("text", "audio", classes=3, width=3)

    def loss(a, b):
        return alignment_loss({"text": a, "audio": b}, 0.3, 1.0, 1.0, marginals=marginals, relaxation=0.3)

    assert torch.autograd.gradcheck(loss, tuple(given.values()), eps=1e-4, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_descent_aligns(marginals):
    given = {name: torch.nn.Parameter(value.detach()) for name, value in prototypes(*NAMES).items()}
    optimizer = torch.optim.Adam(given.values(), lr=0.05)
    before, potentials = alignment_loss(given, 0.05, marginals=marginals).item(), None
    for _ in range(60):
        terms = alignment_terms(given, 0.05, marginals=marginals, potentials=potentials)
        potentials = terms.potentials
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        assert terms.converged
    assert terms.loss.item() < 0.3 * before


def test_one_modality_is_a_zero_with_a_gradient():
    given = prototypes("text")
    terms = alignment_terms(given)
    assert terms.loss == 0
    assert terms.pairs == {}
    assert terms.potentials is None
    terms.loss.backward()
    assert (given["text"].grad == 0).all()


def test_a_class_not_seen_yet_breaks_nothing():
    given = prototypes("text", "audio")
    with torch.no_grad():
        given["audio"][1] = 0.0
    loss = alignment_loss(given)
    loss.backward()
    assert loss.isfinite()
    assert all(value.grad.isfinite().all() and value.grad.abs().max() < 1e3 for value in given.values())


def test_mixed_precision_changes_nothing():
    given = {name: value.detach().float() for name, value in prototypes(*NAMES).items()}
    plain = alignment_loss(given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alignment_loss(given), plain)
    assert alignment_loss({name: value.bfloat16() for name, value in given.items()}).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "at least one modality"),
        ({"text": torch.zeros(3)}, "'text'"),
        ({"text": torch.ones(3, 2, dtype=torch.long)}, "floating-point"),
        ({"text": torch.ones(3, 2), "audio": torch.ones(3, 4)}, "'audio'.*project"),
        ({"text": torch.ones(3, 2), "audio": torch.full((3, 2), math.nan)}, "'audio' holds NaN"),
        ({"text": torch.full((3, 2), math.inf)}, "'text' holds NaN"),
    ],
)
def test_mistakes_are_named(given, words):
    with pytest.raises(PaSEError, match=words):
        alignment_loss(given)
