"""InfoReg: window and pull against naive numbers, and what the pull does to the modality that is ahead."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pase_msa.balancing import inforeg
from pase_msa.errors import PaSEError
from tests.balancing.planted import PAIR, dominated, pair_model, prepared, run
from tests.reference import inforeg as naive
from tests.toys import NAMES, parameters_of, toy_batch, toy_model


def made(model, **options):
    return prepared(inforeg.build(inforeg.Config(**options)), model)


# the window


@pytest.mark.parametrize("window", [1, 3, 10])
def test_the_growth_is_that_of_a_naive_moving_average(window):
    traces = np.random.default_rng(0).uniform(0.5, 2.0, size=15).tolist()
    for epochs in range(16):
        assert inforeg.growth(traces[:epochs], window) == pytest.approx(naive.growth(traces[:epochs], window))


def test_the_growth_needs_no_older_traces_than_those_that_are_kept():
    traces = np.random.default_rng(1).uniform(0.5, 2.0, size=15).tolist()
    assert inforeg.growth(traces[-4:], 3) == pytest.approx(inforeg.growth(traces, 3))


def test_a_trace_that_stays_has_no_growth_once_the_window_is_full():
    values = [inforeg.growth([2.0] * epochs, 3) for epochs in range(6)]
    assert values == pytest.approx([1.0, 1.0, 1 / 2, 1 / 3, 0.0, 0.0])


def test_a_trace_of_zero_is_no_division_by_zero():
    assert inforeg.growth([0.0, 0.0], 2) == 0.0


# the pull


def test_the_strength_is_that_of_the_naive_formula():
    scores, growths = {"a": 0.7, "b": 0.4, "c": 0.6}, {"a": 0.5, "b": 0.5, "c": 0.01}
    found = inforeg.pulls(scores, growths, 0.95, 0.04)
    expected = {
        name: naive.strength(score, [s for n, s in scores.items() if n != name], growths[name], 0.95, 0.04)
        for name, score in scores.items()
    }
    assert found == pytest.approx(expected)
    assert found["a"] > 0.95
    assert found["b"] == found["c"] == 0.0, "one is behind, the other no longer learns fast"


def test_equals_are_not_pulled():
    assert set(inforeg.pulls(dict.fromkeys("abc", 0.5), dict.fromkeys("abc", 1.0), 1.0, 0.0).values()) == {0.0}


def test_one_modality_is_never_ahead():
    assert inforeg.pulls({"a": 0.9}, {"a": 1.0}, 1.0, 0.0) == {"a": 0.0}


def test_the_steps_of_an_epoch_are_those_of_a_naive_descent():
    """One weight per modality, given gradients, and scores that differ from step to step."""
    weights = {name: torch.nn.Parameter(torch.tensor([value])) for name, value in zip(PAIR, (0.5, -1.0), strict=True)}
    module = SimpleNamespace(modalities=PAIR, modality_parameters=lambda name: [weights[name]])
    optimizer = torch.optim.SGD(weights.values(), 0.1)
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value), current_epoch=0)
    method = inforeg.build(inforeg.Config(beta=0.8))
    method.on_fit_start(trainer, module)
    method.on_train_epoch_start(trainer, module)
    gradients = {"text": [1.0, -0.5, 2.0], "audio": [0.3, 0.2, -0.7]}
    scores = {"text": [0.9, 0.2, 0.7], "audio": [0.3, 0.6, 0.6]}
    batch = SimpleNamespace(present={name: torch.ones(1, dtype=torch.bool) for name in PAIR})
    paths = {name: [] for name in PAIR}
    for step in range(3):
        method._scores.add(torch.tensor([[scores[name][step]] for name in PAIR]), batch)
        for name in PAIR:
            weights[name].grad = torch.tensor([gradients[name][step]])
        method.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
        for name in PAIR:
            paths[name].append(float(weights[name].detach()))
    method.on_train_epoch_end(trainer, module)
    for name, other, start in (("text", "audio", 0.5), ("audio", "text", -1.0)):
        strengths = [naive.strength(s, [o], 1.0, 0.8, 0.04) for s, o in zip(scores[name], scores[other], strict=True)]
        assert any(strengths)
        assert paths[name] == pytest.approx(naive.descent(start, gradients[name], strengths, 0.1), rel=1e-5)
        # the trace is that of the gradients of the losses, without the pull
        assert method.traces[name] == pytest.approx([sum(g**2 for g in gradients[name])])


# the losses


def test_the_heads_add_their_losses():
    model, batch = toy_model("concat"), toy_batch()
    batch.present["text"][:4] = False
    method = made(model, unimodal=0.5)
    method.on_fit_start(None, SimpleNamespace(modalities=NAMES, modality_parameters=model.modality_parameters))
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    found = method.reweight(losses, outputs, batch, None)
    own = method.heads.losses(outputs, batch)
    assert set(found) == {*losses, *(f"alone/{name}" for name in NAMES)}
    assert all(torch.allclose(found[f"alone/{name}"], 0.5 * own[name]) for name in NAMES)


def test_without_pull_and_heads_nothing_changes():
    batch, after = toy_batch(), []
    for options, active in (({"beta": 0.0, "unimodal": 0.0}, True), ({}, False), ({"unimodal": 0.0}, True)):
        model = toy_model("concat")
        method = made(model, **options)
        method.active = active
        run(method, model, [batch] * 2, 2)
        after.append(parameters_of(model))
    plain = toy_model("concat")
    run(None, plain, [batch] * 2, 2)
    assert torch.equal(after[0], parameters_of(plain))
    assert torch.equal(after[1], parameters_of(plain))
    assert not torch.equal(after[2], parameters_of(plain))


def test_a_model_without_vectors_is_refused():
    with pytest.raises(PaSEError, match="EarlyFusionLSTM has no vectors"):
        made(toy_model("ef_lstm"))


# what it does


def moved(method, model, batch, name):
    before = [p.detach().clone() for p in model.modality_parameters(name)]
    run(method, model, [batch] * 20, 1, rate=0.05)
    return float(
        sum((p - q).square().sum() for p, q in zip(model.modality_parameters(name), before, strict=True)).detach()
    )


def test_the_modality_that_is_ahead_is_held_back_within_an_epoch_and_the_other_is_not():
    batch, distances = dominated(), {}
    for beta in (0.0, 3.0):
        for name in PAIR:
            model = pair_model()
            method = made(model, beta=beta)
            distances[beta, name] = moved(method, model, batch, name)
    log = method.log_values()
    assert log["pull/text"] > 1.0
    assert distances[3.0, "text"] < 0.6 * distances[0.0, "text"]
    assert distances[3.0, "audio"] > 0.9 * distances[0.0, "audio"]


def test_the_pull_ends_with_the_window():
    model = pair_model()
    method = run(made(model, window=2, threshold=0.2), model, [dominated()], 12)
    strengths = [row["pull/text"] for row in method.history]
    assert max(strengths[:2]) > 0
    assert strengths[-1] == 0.0
