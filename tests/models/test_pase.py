"""PaSE: every switch acts, every loss reaches the encoders, and absent modalities are imputed."""

import dataclasses

import pytest
import torch

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.models.pase import Config
from pase_msa.shapley import coalitions
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare
from tests.toys import NAMES, parameters_of, relabelled, toy_batch, toy_model, train_steps

BATCHES = [toy_batch(seed=seed, n=14) for seed in range(4)]
COMPLETE = [toy_batch(seed=seed, n=14, missing=False) for seed in range(4)]


def after_steps(**options):
    """A model that has prototypes, with alignment at every step unless told otherwise."""
    return train_steps(toy_model(**{"alignment_interval": 1, **options}), BATCHES)


def encoder_gradients(model, loss):
    """Norm of the loss's gradient at each encoder."""
    model.zero_grad()
    loss.backward()
    return {
        name: torch.cat([p.grad.flatten() for p in model.modality_parameters(name) if p.grad is not None]).norm()
        for name in NAMES
        if any(p.grad is not None for p in model.modality_parameters(name))
    }


def flat_gradient(model, loss):
    model.zero_grad()
    loss.backward()
    grads = [p.grad for name in NAMES for p in model.modality_parameters(name) if p.grad is not None]
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize(
    "switch",
    [
        {"calibration": False},
        {"alignment": False},
        {"entropy_sign": "literal"},
        {"gate_prototype": "hard"},
        {"gate_prototype": "label"},
        {"prototype_gradient": "ema"},
        {"alignment_interval": 2},
        {"alignment_weight": 1.0},
        {"marginals": "source"},
        {"marginals": "source", "relaxation": 0.1},
        {"imputation": False},
        {"momentum": 0.5},
        {"temperature": 0.5},
        {"mu": 0.5},
        {"regularization": 0.1},
        {"structure": 0.5},
        {"class_weight": 0.5},
        {"score_weight": 0.5},
    ],
    ids=str,
)
def test_a_switch_changes_what_is_learned(switch):
    default, switched = after_steps(), after_steps(**switch)
    difference = (parameters_of(default) - parameters_of(switched)).abs().max()
    assert difference > 1e-6, "the switch does nothing"
    assert torch.equal(parameters_of(default), parameters_of(after_steps())), "and chance is not what did it"


@pytest.mark.parametrize("fusion", ["concat", "sum", "attention"])
def test_another_fusion_changes_what_the_encoders_learn(fusion):
    def encoders(model):
        return torch.cat([p.detach().flatten() for name in NAMES for p in model.modality_parameters(name)])

    # the encoders are made first, so that they begin the same
    assert torch.equal(encoders(toy_model()), encoders(toy_model(fusion=fusion)))
    assert not torch.equal(encoders(after_steps()), encoders(after_steps(fusion=fusion)))


def test_consistency_acts_where_the_directions_differ():
    options = {"marginals": "source", "relaxation": 0.1}
    first, second = after_steps(**options), after_steps(**options, consistency=5.0)
    assert (parameters_of(first) - parameters_of(second)).abs().max() > 1e-6


def test_consistency_does_nothing_with_balanced_marginals():
    first, second = after_steps(), after_steps(consistency=5.0)
    assert torch.equal(parameters_of(first), parameters_of(second))


def modulated(table, name, **options):
    config = RunConfig(
        model={"name": "pase", "width": 6},
        balancing={"name": name, **options},
        encoders={"default": {"hidden": 6}},
        phases=PhaseConfig(start="always"),
        training=TrainingConfig(epochs=2, batch_size=24, accelerator="cpu"),
    )
    prepared = prepare(config, table)
    fit(config, prepared, None, progress=False)
    return prepared.model


def test_modulation_changes_what_is_learned(score_table):
    plain, slowed = modulated(score_table, "none"), modulated(score_table, "sgm")
    assert not torch.equal(parameters_of(plain), parameters_of(slowed))


def test_the_utility_changes_what_is_learned(score_table):
    default, by_prediction = modulated(score_table, "sgm"), modulated(score_table, "sgm", utility="prediction")
    assert not torch.equal(parameters_of(default), parameters_of(by_prediction))


def test_rho_changes_what_modulation_does(score_table):
    model = after_steps()
    losses = {f"intra/{name}": value for name, value in zip(NAMES, (1.0, 2.0, 3.0), strict=True)}
    losses |= {"inter/text+audio": 0.5, "inter/text+vision": 0.7, "inter/audio+vision": 0.9}
    whole = frozenset(NAMES)
    assert model.coalition_utility(losses, whole) != after_steps(utility_mix=0.9).coalition_utility(losses, whole)


@pytest.mark.parametrize("term", ["class", "score", "intra", "inter"])
def test_each_loss_alone_has_a_gradient_at_every_encoder(term):
    model = after_steps()
    batch = BATCHES[0]
    losses = model.losses(model(batch), batch)
    gradients = encoder_gradients(model, losses[term])
    assert set(gradients) == set(NAMES)
    assert all(norm > 1e-7 for norm in gradients.values()), gradients


def test_alignment_is_part_of_every_nth_step_and_n_times_as_heavy():
    often, seldom = toy_model(alignment_interval=1), toy_model(alignment_interval=3)
    for step, batch in enumerate(BATCHES * 2):
        losses, own = {}, {}
        for model, found in ((often, losses), (seldom, own)):
            outputs = model(batch)
            found |= model.losses(outputs, batch)
            model.update(outputs, batch)
        assert ("inter" in own) is (step % 3 == 0)
        if step % 3 == 0:
            assert torch.allclose(own["inter"], 3 * losses["inter"], rtol=1e-4)


def without(batch, name):
    """A batch in which no utterance has a modality."""
    return dataclasses.replace(batch, present=batch.present | {name: torch.zeros_like(batch.present[name])})


@pytest.mark.parametrize("marginals", ["balanced", "source"])
def test_no_modality_is_aligned_with_one_that_does_not_occur(marginals):
    whole, part = after_steps(marginals=marginals), after_steps(marginals=marginals)
    batch = without(COMPLETE[0], "audio")
    outputs = whole(batch)
    gradients = encoder_gradients(whole, whole.losses(outputs, batch)["inter"])
    assert [name for name in outputs.details if name.startswith("inter/")] == ["inter/text+vision"]
    assert gradients["text"] > 1e-7
    assert gradients["vision"] > 1e-7
    assert not gradients.get("audio")
    # the solution found is kept for the pair that was solved, and the others' stay where they were
    rows, before = outputs.state.step.potentials[0], part.aligner.row_potentials
    moved = [index for index in range(len(rows)) if not torch.equal(rows[index], before[index])]
    assert moved == [index for index in range(len(rows)) if whole.aligner.pairs[index % 3] == ("text", "vision")]


def test_a_single_modality_that_occurs_is_aligned_with_none():
    model = after_steps()
    batch = without(without(COMPLETE[0], "audio"), "vision")
    assert not model.losses(model(batch), batch)["inter"].detach()


@pytest.mark.parametrize("name", ["pase", "concat"])
@pytest.mark.parametrize("training", [True, False])
def test_a_modality_that_no_utterance_has_is_not_encoded_and_changes_nothing(monkeypatch, name, training):
    model = train_steps(toy_model(name), BATCHES)
    model.train(training)
    batch = without(COMPLETE[0], "audio")
    wanted = model(dataclasses.replace(batch, features=batch.features | {"audio": 0 * batch.features["audio"]}))
    monkeypatch.setattr(model.encoders["audio"], "forward", lambda *_: pytest.fail("encoded"))
    found = model(batch)
    assert torch.equal(found.logits, wanted.logits)


def test_the_first_batch_aligns_too():
    model, batch = toy_model().train(), BATCHES[0]
    gradients = encoder_gradients(model, model.losses(model(batch), batch)["inter"])
    assert all(norm > 1e-7 for norm in gradients.values())


@pytest.mark.parametrize("momentum", [0.98, 0.5])
def test_the_ema_gradient_is_the_straight_through_one_times_one_minus_gamma(momentum):
    model, batch = after_steps(momentum=momentum), COMPLETE[0]
    straight = flat_gradient(model, model.losses(model(batch), batch)["inter"])
    model.config = dataclasses.replace(model.config, prototype_gradient="ema")
    ema = flat_gradient(model, model.losses(model(batch), batch)["inter"])
    assert straight.norm() > 1e-6
    assert torch.allclose(ema, (1 - momentum) * straight, rtol=1e-3, atol=1e-8)


def test_straight_through_changes_the_gradient_and_not_the_value():
    model, batch = after_steps(), BATCHES[0]
    straight = model.losses(model(batch), batch)["inter"]
    model.config = dataclasses.replace(model.config, prototype_gradient="ema")
    assert torch.allclose(model.losses(model(batch), batch)["inter"], straight, atol=1e-7)


def test_losses_are_named_as_eq_15_names_them():
    batch = BATCHES[0]
    assert set(toy_model().losses(toy_model()(batch), batch)) == {"class", "score", "intra", "inter"}
    bare = toy_model(calibration=False, alignment=False)
    assert set(bare.losses(bare(batch), batch)) == {"class", "score"}


def test_the_weighted_sum_of_calibration_losses_is_mu_times_eq_15():
    model, batch = after_steps(mu=0.3), BATCHES[0]
    outputs = model(batch)
    found = model.losses(outputs, batch)["intra"]
    expected = sum(outputs.weights[name] * outputs.details[f"intra/{name}"] for name in NAMES)
    assert torch.allclose(found, 0.3 * expected)


def test_a_class_that_never_appeared_leaves_the_losses_finite():
    model = toy_model().train()
    batch = relabelled(BATCHES[0], BATCHES[0].labels.clamp(-1, 1))
    outputs = model(batch)
    losses = model.losses(outputs, batch)
    model.update(outputs, batch)
    assert all(value.isfinite() for value in losses.values())
    assert all(value.isfinite() for value in model.losses(model(BATCHES[1]), BATCHES[1]).values())
    assert model.bank.initialised[NAMES.index("text")].tolist() == [False, False, True, True, True, False, False]


def test_an_absent_modality_is_the_mix_of_its_prototypes_under_the_posterior_of_those_present():
    model = after_steps().eval()
    batch = BATCHES[0]
    outputs = model(batch)
    weights = torch.stack([outputs.weights["text"], outputs.weights["audio"]])
    pair = torch.stack([outputs.posteriors["text"][0], outputs.posteriors["audio"][0]])
    joint = (weights.unsqueeze(1) * pair).sum(0) / weights.sum()
    assert torch.allclose(outputs.vectors["vision"][0], joint @ model.bank.prototypes[NAMES.index("vision")], atol=1e-6)
    assert torch.allclose(outputs.posteriors["vision"][0], joint, atol=1e-6)


@pytest.mark.parametrize("fusion", plugins.names("fusion"))
@pytest.mark.parametrize("rows_at_once", [1, 40, 4096])
def test_coalitions_that_go_together_come_out_as_they_do_alone(monkeypatch, fusion, rows_at_once):
    monkeypatch.setattr("pase_msa.models.pase._ROWS", rows_at_once)
    model, batch = after_steps(fusion=fusion).eval(), BATCHES[0]
    groups = coalitions(NAMES)
    for group, found in zip(groups, model.predict_coalitions(batch, groups), strict=True):
        alone = model(batch.only(group))
        assert torch.allclose(found.logits, alone.logits, atol=1e-6)
        assert torch.allclose(found.score, alone.score, atol=1e-6)
        assert torch.allclose(found.fused, alone.fused, atol=1e-6)
        assert found.gates.keys() == alone.gates.keys()
        for name in NAMES:
            assert torch.equal(found.present[name], alone.present[name])
            assert torch.allclose(found.vectors[name], alone.vectors[name], atol=1e-6)
            assert torch.allclose(found.posteriors[name], alone.posteriors[name], atol=1e-6)
            assert torch.equal(found.weights[name], alone.weights[name])
            if name in alone.gates:
                assert torch.allclose(found.gates[name], alone.gates[name], atol=1e-6)


def test_losses_of_a_coalition_are_those_of_a_batch_without_the_rest():
    model, batch = after_steps(), COMPLETE[0]
    groups = [frozenset({"text"}), frozenset(NAMES)]
    for group, found in zip(groups, model.predict_coalitions(batch, groups), strict=True):
        alone = batch.only(group)
        expected = model.losses(model(alone), alone)
        for term, value in model.losses(found, batch).items():
            assert torch.allclose(value, expected[term], atol=1e-6), term


def test_the_momentum_step_leaves_the_gradient_alone():
    model, batch = after_steps(), BATCHES[0]
    outputs = model(batch)
    loss = torch.stack(list(model.losses(outputs, batch).values())).sum()

    def gradient():
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        return torch.cat([grad.flatten() for grad in grads if grad is not None])

    before = gradient()
    model.update(outputs, batch)
    assert torch.equal(gradient(), before)


def test_update_before_losses_is_refused_in_a_sentence():
    model, batch = toy_model().train(), BATCHES[0]
    outputs = model(batch)
    with pytest.raises(PaSEError, match=r"^PaSE\.update needs what PaSE\.losses computed .*; call losses before it\.$"):
        model.update(outputs, batch)
    assert not model.ready
    model.losses(outputs, batch)
    model.update(outputs, batch)
    assert model.ready


def test_outputs_of_another_model_are_refused_in_a_sentence():
    model, batch = toy_model(), BATCHES[0]
    with pytest.raises(PaSEError, match=r"These outputs are not of a pass of PaSE's network"):
        model.losses(toy_model("concat")(batch), batch)


def test_losses_on_validation_data_before_training_leave_the_bank_as_it_is():
    model = toy_model().eval()
    before = model(COMPLETE[0]).probabilities
    model.losses(model(COMPLETE[0]), COMPLETE[0])
    assert model.bank.mask is not None
    assert torch.equal(model(COMPLETE[0]).probabilities, before)


def test_a_complete_batch_trains_the_same_with_and_without_masks(monkeypatch):
    masked, plain = toy_model().train(), toy_model().train()
    original = masked._fuse

    def with_flags(stacked, flags, reading, membership):
        outputs = original(stacked, flags, reading, membership)
        outputs.state.present = flags.float()
        return outputs

    monkeypatch.setattr(masked, "_fuse", with_flags)
    train_steps(masked, COMPLETE)
    train_steps(plain, COMPLETE)
    assert torch.allclose(parameters_of(masked), parameters_of(plain), atol=1e-6)
    assert torch.allclose(masked.bank.prototypes, plain.bank.prototypes, atol=1e-6)
    assert torch.allclose(masked.weighting.level, plain.weighting.level, atol=1e-6)


def test_imputation_leaves_what_is_present_alone():
    model = after_steps().eval()
    batch = toy_batch(missing=False)
    whole, partial = model(batch), model(batch.only(["text", "audio"]))
    assert torch.equal(whole.vectors["text"], partial.vectors["text"])
    assert not torch.equal(whole.vectors["vision"], partial.vectors["vision"])


def test_without_imputation_an_absent_modality_is_zero():
    outputs = after_steps(imputation=False).eval()(BATCHES[0])
    assert torch.equal(outputs.vectors["vision"][0], torch.zeros(6))


def test_imputation_changes_predictions_of_absent_modalities_only():
    model = after_steps().eval()
    batch = BATCHES[0]
    on = model(batch).probabilities
    model.config = dataclasses.replace(model.config, imputation=False)
    off = model(batch).probabilities
    assert not torch.allclose(on[0], off[0])
    assert torch.equal(on[1:], off[1:])


def test_where_everything_is_absent_the_class_prior_decides():
    model = after_steps().eval()
    model.fit_prior(torch.tensor([-3.0, -3.0, 0.0, 2.0, 3.0]))
    outputs = model(BATCHES[0].only([]))
    prior = torch.tensor([2.5, 0.5, 0.5, 1.5, 0.5, 1.5, 1.5]) / 8.5
    for name in NAMES:
        assert torch.allclose(outputs.posteriors[name], prior.expand(14, -1), atol=1e-6)
        expected = (prior @ model.bank.prototypes[NAMES.index(name)]).expand(14, -1)
        assert torch.allclose(outputs.vectors[name], expected, atol=1e-6)
    assert outputs.score.isfinite().all()
    assert torch.allclose(outputs.score, outputs.score[:1].expand(14))


def test_an_untrained_model_predicts_something_finite():
    assert toy_model().eval()(BATCHES[0].only([])).probabilities.isfinite().all()


def test_prediction_uses_the_expected_prototype_under_gate_prototype_label():
    model = after_steps(gate_prototype="label").eval()
    with_labels, without = model(BATCHES[0]), model(dataclasses.replace(BATCHES[0], labels=None))
    assert torch.equal(with_labels.probabilities, without.probabilities)
    model.config = dataclasses.replace(model.config, gate_prototype="expected")
    assert torch.equal(model(BATCHES[0]).probabilities, with_labels.probabilities)


def test_training_reads_the_label_under_gate_prototype_label_only():
    other = relabelled(BATCHES[0], BATCHES[0].labels.roll(1))
    for reading, depends in (("label", True), ("expected", False), ("hard", False)):
        model = after_steps(gate_prototype=reading)
        assert model.training
        same = torch.equal(model(BATCHES[0]).probabilities, model(other).probabilities)
        assert same is not depends, reading


def test_the_gate_reads_the_expected_prototype(monkeypatch):
    model = after_steps().eval()
    read = {}
    original = model.fusion.forward

    def spy(vectors, weights, prototypes, present):
        read.update(prototypes)
        return original(vectors, weights, prototypes, present)

    monkeypatch.setattr(model.fusion, "forward", spy)
    outputs = model(BATCHES[0])
    for name in NAMES:
        expected = outputs.posteriors[name] @ model.bank.prototypes[NAMES.index(name)]
        assert torch.allclose(read[name], expected, atol=1e-6)


def test_the_hard_gate_reads_the_nearest_prototype(monkeypatch):
    model = after_steps(gate_prototype="hard").eval()
    read = {}
    original = model.fusion.forward

    def spy(vectors, weights, prototypes, present):
        read.update(prototypes)
        return original(vectors, weights, prototypes, present)

    monkeypatch.setattr(model.fusion, "forward", spy)
    outputs = model(BATCHES[0])
    for name in NAMES:
        nearest = model.bank.prototypes[NAMES.index(name)][outputs.posteriors[name].argmax(1)]
        assert torch.equal(read[name], nearest)


def grade(rho, intra, inter):
    return rho / (1 + inter) + (1 - rho) / (1 + intra)


def test_the_coalition_utility_is_eq_19():
    model = toy_model(utility_mix=0.3)
    losses = {"intra/text": 1.0, "intra/audio": 2.0, "intra/vision": 4.0}
    losses |= {"inter/text+audio": 0.5, "inter/text+vision": 0.25, "inter/audio+vision": 1.5}
    assert model.coalition_utility(losses, frozenset(NAMES)) == pytest.approx(grade(0.3, 7 / 3, 0.75))
    assert model.coalition_utility(losses, frozenset({"audio", "vision"})) == pytest.approx(grade(0.3, 3.0, 1.5))


@pytest.mark.parametrize("name", NAMES)
def test_the_inter_modal_term_of_a_single_modality_is_perfect(name):
    losses = {"intra/text": 1.0, "intra/audio": 2.0, "intra/vision": 4.0, "inter/text+audio": 9.0}
    found = toy_model(utility_mix=0.3).coalition_utility(losses, frozenset({name}))
    assert found == pytest.approx(0.3 + 0.7 / (1 + losses[f"intra/{name}"]))


def test_a_single_modality_has_no_alignment_and_trains():
    batches = [toy_batch(modalities=("text",), seed=seed) for seed in range(2)]
    model = train_steps(toy_model(modalities=("text",)), batches)
    assert "inter" not in model.losses(model(batches[0]), batches[0])
    assert parameters_of(model).isfinite().all()


@pytest.mark.parametrize(
    "options", [{"utility_mix": 1.5}, {"mu": -0.1}, {"gate_prototype": "guess"}, {"momentun": 0.5}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(PaSEError):
        plugins.configure(Config, options, "The model pase")
