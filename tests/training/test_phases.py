"""The dual-phase rule as a state machine, and the callback that applies it."""

import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pase_msa.balancing.base import BalancingMethod
from pase_msa.errors import PaSEError
from pase_msa.training.config import PhaseConfig
from pase_msa.training.phases import DualPhase, TransitionRule

steady = settings(derandomize=True, deadline=None, max_examples=50)


def phases(config, entropies, metrics=None, mode="max"):
    """The phase after each epoch."""
    rule = TransitionRule(config, mode)
    metrics = metrics or [0.5] * len(entropies)
    return [rule.step(entropy, metric) for entropy, metric in zip(entropies, metrics, strict=True)]


def warm(count):
    return ["warm-up"] * count


def test_a_stable_entropy_switches():
    config = PhaseConfig(min_epochs=1, tolerance=0.05, patience=1)
    assert phases(config, [1.0, 0.8, 0.79]) == [*warm(2), "balancing"]


def test_a_change_of_the_tolerance_or_more_is_not_stable():
    config = PhaseConfig(min_epochs=1, tolerance=0.05, patience=1)
    assert phases(config, [1.0, 0.94, 1.0, 0.94]) == warm(4)


def test_the_change_is_relative():
    config = PhaseConfig(min_epochs=1, tolerance=0.05, patience=1)
    assert phases(config, [0.010, 0.006, 0.002]) == warm(3)
    assert phases(config, [100.0, 97.0]) == ["warm-up", "balancing"]


def test_patience_counts_stable_epochs_in_a_row():
    config = PhaseConfig(min_epochs=1, tolerance=0.05, patience=2)
    assert phases(config, [1.0, 1.0, 0.5, 0.5, 0.5]) == [*warm(4), "balancing"]


@steady
@given(st.integers(1, 8), st.integers(1, 4))
def test_warm_up_lasts_min_epochs_at_least(least, patience):
    result = phases(PhaseConfig(min_epochs=least, patience=patience), [1.0] * 12)
    # the first epoch has nothing to compare with
    assert result.index("balancing") + 1 == max(least, patience + 1)


def test_an_entropy_of_zero_is_stable():
    assert phases(PhaseConfig(min_epochs=1, patience=1), [0.0, 0.0]) == ["warm-up", "balancing"]


def test_start_never_does_not_switch():
    assert phases(PhaseConfig(start="never", min_epochs=1, patience=1), [1.0] * 9) == warm(9)


def test_start_always_balances_from_the_first_epoch():
    rule = TransitionRule(PhaseConfig(start="always"), "max")
    assert rule.phase == "balancing"
    assert rule.step(1.0, 0.5) == "balancing"


GUARD = PhaseConfig(min_epochs=1, patience=1, guard=0.1, guard_patience=2)


@pytest.mark.parametrize(("mode", "good", "bad"), [("max", 0.8, 0.7), ("min", 0.7, 0.8)])
def test_the_guard_switches_off_after_its_patience(mode, good, bad):
    result = phases(GUARD, [1.0] * 5, [good, good, bad, bad, good], mode)
    assert result == ["warm-up", "balancing", "balancing", "guarded", "guarded"]


@pytest.mark.parametrize(("mode", "good", "slip"), [("max", 0.8, 0.73), ("min", 0.7, 0.76)])
def test_a_fall_within_the_guard_is_no_harm(mode, good, slip):
    assert phases(GUARD, [1.0] * 6, [good, good, slip, slip, slip, slip], mode)[-1] == "balancing"


@pytest.mark.parametrize(("mode", "good", "better"), [("max", 0.8, 0.99), ("min", 0.7, 0.1)])
def test_an_improvement_is_no_harm(mode, good, better):
    assert phases(GUARD, [1.0] * 6, [good, good, *[better] * 4], mode)[-1] == "balancing"


def test_harmful_epochs_must_come_in_a_row():
    result = phases(GUARD, [1.0] * 7, [0.8, 0.8, 0.1, 0.8, 0.1, 0.8, 0.1])
    assert result[1:] == ["balancing"] * 6


def test_the_guard_compares_with_the_best_of_the_warm_up():
    result = phases(GUARD, [5.0, 2.0, 2.0, 2.0, 2.0], [0.9, 0.5, 0.5, 0.5, 0.5])
    assert result == ["warm-up", "warm-up", "balancing", "balancing", "guarded"]


def test_the_guard_switches_off_for_good():
    result = phases(GUARD, [1.0] * 9, [0.8, 0.8, 0.1, 0.1, *[0.9] * 5])
    assert result[3:] == ["guarded"] * 6


def test_a_guard_that_is_large_never_acts():
    config = PhaseConfig(min_epochs=1, patience=1, guard=1e9, guard_patience=1)
    assert phases(config, [1.0] * 5, [0.8, 0.8, 0.0, 0.0, 0.0])[-1] == "balancing"


def test_without_a_warm_up_the_guard_compares_with_the_first_epoch():
    config = PhaseConfig(start="always", guard=0.1, guard_patience=1)
    assert phases(config, [1.0, 1.0], [0.8, 0.5]) == ["balancing", "guarded"]


@pytest.mark.parametrize(
    "options", [{"min_epochs": 0}, {"patience": 0}, {"guard_patience": 0}, {"tolerance": 0.0}, {"guard": -0.1}]
)
def test_a_bad_rule_is_refused(options):
    ((key, value),) = options.items()
    with pytest.raises(PaSEError, match=rf"^phases\.{key} is a (whole )?number .*, found {value}; give such a one"):
        PhaseConfig(**options)


def trainer_of(callback, epoch, entropy, metric):
    values = {"val/entropy": entropy, "val/mae": metric}
    return types.SimpleNamespace(callbacks=[callback], callback_metrics=values, current_epoch=epoch)


def run(dual, method, epochs):
    active = []
    for epoch, (entropy, metric) in epochs:
        dual.on_train_epoch_end(trainer_of(method, epoch, entropy, metric), None)
        active.append(method.active)
    return active


EPOCHS = list(enumerate([(1.0, 0.7), (1.0, 0.7), (1.0, 0.9), (1.0, 0.9), (1.0, 0.7)]))


def test_the_callback_switches_balancing_on_and_off_and_keeps_the_epochs():
    dual, method = DualPhase(GUARD, "val/mae", "min"), BalancingMethod()
    dual.on_fit_start(trainer_of(method, 0, 1.0, 0.7), None)
    assert method.active is False
    assert run(dual, method, EPOCHS) == [False, True, True, False, False]
    assert (dual.switched_at, dual.guarded_at) == (1, 3)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_the_callback_goes_on_from_its_state(stop):
    first, method = DualPhase(GUARD, "val/mae", "min"), BalancingMethod()
    before = run(first, method, EPOCHS[:stop])
    second = DualPhase(GUARD, "val/mae", "min")
    second.load_state_dict(first.state_dict())
    assert before + run(second, method, EPOCHS[stop:]) == [False, True, True, False, False]
    assert (second.switched_at, second.guarded_at) == (1, 3)


def test_the_guard_is_logged(caplog):
    run(DualPhase(GUARD, "val/mae", "min"), BalancingMethod(), EPOCHS)
    assert "val/mae got worse by more than 0.1 for 2 epochs; balancing off again" in caplog.text
