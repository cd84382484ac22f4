"""Uni-modal teachers: the distance against a naive loop, what is taught, and what the weaker modality learns by it."""

import copy

import pytest
import torch

from pase_msa.balancing import umt
from pase_msa.errors import PaSEError
from tests.balancing.planted import PAIR, dominated, pair_model, prepared, run
from tests.reference import umt as naive
from tests.toys import NAMES, parameters_of, toy_batch, toy_model


def made(model, **options):
    """With teachers that were not trained."""
    return prepared(umt.build(umt.Config(**options)), model, lambda names, epochs: untrained(model, names))


def untrained(model, names):
    modalities = tuple(name for name in model.task.modalities if name in names)
    return toy_model("concat", model.task.kind, modalities, seed=7)


def pulls(method, model, batch):
    outputs = model(batch)
    found = method.reweight(model.losses(outputs, batch), outputs, batch, None)
    return {name: found[f"teacher/{name}"] for name in model.task.modalities}


@pytest.mark.parametrize("missing", [False, True])
def test_the_distance_is_that_of_a_naive_loop(missing):
    model, batch = toy_model("concat"), toy_batch()
    if missing:
        batch.present["text"][:5] = False
        batch.present["audio"][:] = False
    method = made(model, weight=3.0)
    vectors = {name: value.tolist() for name, value in model(batch).vectors.items()}
    targets = {name: method.teachers[name](batch).vectors[name].tolist() for name in NAMES}
    flags = {name: batch.present[name].tolist() for name in NAMES}
    total = torch.stack(list(pulls(method, model, batch).values())).sum().item()
    assert total == pytest.approx(naive.distillation(vectors, targets, flags, 3.0), rel=1e-5)


def test_an_absent_modality_has_no_term_and_no_gradient():
    model, batch = toy_model("concat"), toy_batch().only(["text", "audio"])
    found = pulls(made(model), model, batch)
    assert found["vision"].item() == 0.0
    torch.stack(list(found.values())).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.modality_parameters("vision"))
    assert all(p.grad is not None for p in model.modality_parameters("audio"))


def test_a_model_that_is_its_own_teacher_is_not_pulled():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model)
    for name, teacher in method.teachers.items():
        model.encoders[name].load_state_dict(teacher.encoders[name].state_dict())
    assert all(float(value.detach()) == pytest.approx(0.0, abs=1e-10) for value in pulls(method, model, batch).values())


def test_teachers_do_not_change_and_have_no_dropout():
    model, batch = toy_model("concat"), toy_batch()
    method = made(model)
    before = {name: copy.deepcopy(teacher.state_dict()) for name, teacher in method.teachers.items()}
    run(method, model, [batch], 3)
    for name, teacher in method.teachers.items():
        assert not teacher.training
        assert all(torch.equal(value, before[name][key]) for key, value in teacher.state_dict().items())


def test_each_modality_is_taught_by_a_model_of_its_own():
    model, asked = toy_model("concat"), []

    def train(names, epochs):
        asked.append((names, epochs))
        return untrained(model, names)

    method = prepared(umt.build(umt.Config(epochs=4)), model, train)
    assert asked == [(frozenset([name]), 4) for name in NAMES]
    assert {name: teacher.task.modalities for name, teacher in method.teachers.items()} == {n: (n,) for n in NAMES}


def test_one_modality_has_no_teacher():
    model = toy_model("concat", modalities=("text",))
    assert made(model).teachers == {}


def test_a_weight_of_zero_and_the_first_phase_change_nothing():
    batch, after = toy_batch(), []
    for options, active in (({"weight": 0.0}, True), ({}, False), ({}, True)):
        model = toy_model("concat")
        method = made(model, **options)
        method.active = active
        run(method, model, [batch], 2)
        after.append(parameters_of(model))
    plain = toy_model("concat")
    run(None, plain, [batch], 2)
    assert torch.equal(after[0], parameters_of(plain))
    assert torch.equal(after[1], parameters_of(plain))
    assert not torch.equal(after[2], parameters_of(plain))


def test_a_model_without_vectors_is_refused():
    with pytest.raises(PaSEError, match="EarlyFusionLSTM has no vectors"):
        made(toy_model("ef_lstm"))


def test_the_vectors_of_the_weaker_modality_come_near_to_those_of_its_teacher():
    train = dominated()

    def teach(names, epochs):
        model = pair_model(modalities=tuple(name for name in PAIR if name in names))
        run(None, model, [train.only(names)], epochs, rate=0.3)
        return model

    distances = {}
    for weight in (0.0, 10.0):
        model = pair_model(seed=3)
        method = run(prepared(umt.build(umt.Config(weight=weight, epochs=15)), model, teach), model, [train], 15)
        with torch.no_grad():
            target = method.teachers["audio"](train).vectors["audio"]
            distances[weight] = float((model.eval()(train).vectors["audio"] - target).square().mean() / target.var())
    assert distances[10.0] < 0.3 < 0.8 < distances[0.0]
