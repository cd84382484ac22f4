"""Shapley modulation on a LightningModule that has nothing else of ours."""

import math

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pase_msa.balancing.factors import modulation_factors
from pase_msa.balancing.sgm import ShapleyModulation
from pase_msa.errors import PaSEError
from pase_msa.shapley import shapley_values

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used.*"),
]

UTILITY = {frozenset("a"): 3.0, frozenset("b"): 1.0, frozenset("ab"): 4.0}  # psi = 3 and 1
FACTOR = {"a": math.exp(1 / 3 - 1), "b": 1.0}


class Foreign(lightning.LightningModule):
    """Two branches and a head, one parameter group, a scheduler that steps every batch."""

    def __init__(self, optimizer="adam"):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 1)
        self.kind = optimizer
        self.rates, self.groups, self.scheduled = [], [], []

    def training_step(self, batch, batch_idx):
        x, z, y = batch
        return (self.head(torch.tanh(self.first(x)) + torch.tanh(self.second(z))).squeeze(1) - y).square().mean()

    def on_train_batch_end(self, *_):
        optimizer = self.trainer.optimizers[0]
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.groups.append(len(optimizer.param_groups))
        self.scheduled.append(self.lr_schedulers().get_last_lr())

    def configure_optimizers(self):
        optimizer = {
            "adam": lambda: torch.optim.Adam(self.parameters(), 0.01),
            "sgd": lambda: torch.optim.SGD(self.parameters(), 0.1),
        }[self.kind]()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def branch(self, name):
        return {"a": self.first, "b": self.second}[name]


def modulation(utility=UTILITY, **options):
    options = {"modalities": ["a", "b"], "parameters": lambda m, name: m.branch(name).parameters(), **options}
    return ShapleyModulation(lambda module, coalition: utility[coalition], **options)


def with_factors(**options):
    """A callback after its first epoch."""
    callback = modulation(**options)
    active = options.get("active", True)
    state = {"active": active, "values": {"a": 3.0, "b": 1.0}, "factors": dict(FACTOR), "history": []}
    callback.load_state_dict(state)
    return callback


def trained(callback, optimizer="adam", epochs=1, batches=4, checkpoint=None, module=None):
    generator = torch.Generator().manual_seed(3)
    data = TensorDataset(*(torch.randn(16, *shape, generator=generator) for shape in ((3,), (2,), ())))
    module = module or Foreign(optimizer)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        limit_train_batches=batches,
        accelerator="cpu",
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, DataLoader(data, batch_size=4), ckpt_path=checkpoint, weights_only=False)
    return module, trainer


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def moved(callback, part, optimizer="adam", batches=1):
    """How far a part has moved."""
    before = flat(getattr(Foreign(), part))
    return flat(getattr(trained(callback, optimizer, batches=batches)[0], part)) - before


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_learning_rate_scale_acts_under_adam_and_sgd(optimizer):
    plain, slowed = moved(None, "first", optimizer), moved(with_factors(), "first", optimizer)
    assert plain.abs().max() > 1e-3
    assert torch.allclose(slowed, FACTOR["a"] * plain, atol=1e-6)


def test_a_gradient_scale_is_undone_by_adam():
    plain = moved(None, "first", "adam", batches=4)
    scaled = moved(with_factors(apply_to="gradient"), "first", "adam", batches=4)
    slowed = moved(with_factors(), "first", "adam", batches=4)
    assert torch.allclose(scaled, plain, rtol=1e-3, atol=1e-6)
    assert slowed.norm() < 0.7 * plain.norm()


def test_a_gradient_scale_acts_under_sgd():
    plain = moved(None, "first", "sgd")
    scaled = moved(with_factors(apply_to="gradient"), "first", "sgd")
    assert torch.allclose(scaled, FACTOR["a"] * plain, atol=1e-6)


@pytest.mark.parametrize("apply_to", ["learning_rate", "gradient"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("part", ["head", "second"])
def test_the_head_and_the_weakest_modality_are_left_alone(part, optimizer, apply_to):
    assert torch.equal(moved(None, part, optimizer), moved(with_factors(apply_to=apply_to), part, optimizer))


def test_nothing_is_modulated_before_the_first_epoch_ends():
    plain, waiting = trained(None)[0], trained(modulation())[0]
    assert torch.equal(flat(plain), flat(waiting))


@pytest.mark.parametrize("apply_to", ["learning_rate", "gradient"])
def test_factors_are_used_only_while_active(apply_to):
    plain = trained(None, "sgd", epochs=2)[0]
    callback = with_factors(active=False, apply_to=apply_to)
    idle = trained(callback, "sgd", epochs=2)[0]
    assert torch.equal(flat(plain), flat(idle))
    assert [entry["active"] for entry in callback.history] == [False, False]


def test_the_second_epoch_runs_at_the_factors_of_the_first():
    two, switched = trained(None, "sgd", epochs=2)[0], trained(modulation(), "sgd", epochs=2)[0]
    assert not torch.equal(flat(two), flat(switched))


def test_schedulers_and_groups_never_see_the_scaled_rate():
    plain, _ = trained(None, epochs=2)
    slowed, trainer = trained(with_factors(), epochs=2)
    assert slowed.rates == plain.rates
    assert slowed.scheduled == plain.scheduled
    assert set(slowed.groups) == {1}
    assert len(trainer.optimizers[0].param_groups[0]["params"]) == 6


def test_a_step_that_fails_does_not_leave_the_scaled_rates_behind():
    class Breaks(Foreign):
        broken = False

        def training_step(self, batch, batch_idx):
            if batch_idx == 1 and not self.broken:
                self.broken = True
                raise ArithmeticError
            return super().training_step(batch, batch_idx)

    callback, module = with_factors(), Breaks()
    with pytest.raises(ArithmeticError):
        trained(callback, module=module)
    trained(callback, module=module)
    assert set(module.groups) == {1}


def test_the_history_has_the_equations():
    callback = modulation()
    trained(callback, epochs=2)
    psi = dict(shapley_values(UTILITY.__getitem__, ["a", "b"]))
    assert [entry["epoch"] for entry in callback.history] == [0, 1]
    assert callback.history[0]["psi"] == pytest.approx(psi)
    assert callback.history[0]["phi"] == pytest.approx(modulation_factors(psi))
    assert callback.factors == pytest.approx(FACTOR)


def test_smoothing_averages_the_values_of_epochs():
    utilities = iter([UTILITY, {frozenset("a"): 1.0, frozenset("b"): 5.0, frozenset("ab"): 6.0}])
    current = {}

    def utility(module, coalition):
        if coalition == frozenset("a"):  # the first coalition of each epoch
            current.update(next(utilities))
        return current[coalition]

    options = {"modalities": ["a", "b"], "parameters": lambda m, name: m.branch(name).parameters()}
    callback = ShapleyModulation(utility, smoothing=0.25, **options)
    trained(callback, epochs=2)
    assert callback.values == pytest.approx({"a": 0.25 * 3 + 0.75 * 1, "b": 0.25 * 1 + 0.75 * 5})


def test_values_that_are_not_positive_are_reported():
    callback = modulation({frozenset("a"): 3.0, frozenset("b"): -1.0, frozenset("ab"): 2.0})
    trained(callback)
    assert callback.history[-1]["floored"] == ["b"]
    assert callback.history[-1]["psi"]["b"] == pytest.approx(-1.0)
    assert callback.history[-1]["phi"]["b"] == 1.0


def test_the_state_is_in_the_checkpoint(tmp_path):
    callback = modulation()
    _, trainer = trained(callback, epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    stored = torch.load(tmp_path / "two.ckpt", weights_only=False)["callbacks"]["ShapleyModulation"]
    assert stored["factors"] == callback.factors
    assert stored["history"] == callback.history


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_training_ends_where_the_other_one_did(tmp_path, optimizer):
    _, trainer = trained(modulation(), optimizer, epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    callback = modulation()
    resumed, _ = trained(callback, optimizer, epochs=4, checkpoint=tmp_path / "two.ckpt")
    whole, _ = trained(modulation(), optimizer, epochs=4)
    assert torch.equal(flat(resumed), flat(whole))
    assert [entry["epoch"] for entry in callback.history] == [0, 1, 2, 3]


def test_the_module_may_name_modalities_parameters_and_utility():
    class Named(Foreign):
        modalities = ("a", "b")

        def modality_parameters(self, name):
            return self.branch(name).parameters()

        def coalition_utility(self, kind, coalition):
            assert kind == "mine"
            return UTILITY[coalition]

    callback = ShapleyModulation("mine")
    trained(callback, module=Named())
    assert callback.factors == pytest.approx(FACTOR)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: modulation(apply_to="weights"), "'learning_rate' or 'gradient', not 'weights'"),
        (lambda: modulation(smoothing=1.0), "smoothing lies in [0, 1), found 1.0"),
        (lambda: trained(modulation(modalities=None)), "needs the names of the modalities"),
        (lambda: trained(modulation(parameters=lambda m, n: [])), "'a' has no parameters"),
        (lambda: trained(modulation(parameters=lambda m, n: m.head.parameters())), "belongs to both 'a' and 'b'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, words):
    with pytest.raises(PaSEError) as caught:
        call()
    assert words in str(caught.value)
