"""Standardisation: against NumPy, and the rules for what is not a number, constant or far out."""

import numpy as np
import pytest
import torch

from pase_msa.data.columns import SequenceColumn
from pase_msa.encoders.scaler import Standardizer
from pase_msa.errors import PaSEError
from tests.toys import toy_model


def frames_of(n=40, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * [0.1, 1, 50][:dim] + [3, -2, 100][:dim]).astype(np.float32)


def fitted(frames, **options):
    scaler = Standardizer(frames.shape[1], **options)
    scaler.fit(frames)
    return scaler


def test_it_agrees_with_numpy():
    frames = frames_of()
    expected = (frames.astype(np.float64) - frames.mean(0, dtype=np.float64)) / frames.std(0, dtype=np.float64)
    found = fitted(frames)(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_values_that_are_not_finite_enter_no_statistic():
    frames = frames_of()
    dirty = np.concatenate([frames, np.full((3, 3), np.nan), np.full((2, 3), np.inf), np.full((1, 3), -np.inf)])
    clean, other = fitted(frames), fitted(dirty.astype(np.float32))
    assert torch.allclose(clean.mean, other.mean)
    assert torch.allclose(clean.inverse_scale, other.inverse_scale)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_become_the_mean(value):
    scaler = fitted(frames_of())
    found = scaler(torch.tensor([[value, 3.0, 100.0]], dtype=torch.float32))
    assert found[0, 0] == 0
    assert found.isfinite().all()
    assert found[0, 1] != 0


def test_a_value_that_is_not_finite_has_no_gradient_and_spoils_none():
    features = torch.tensor([[float("nan"), -1.5, 90.0]], requires_grad=True)
    fitted(frames_of())(features).sum().backward()
    assert features.grad.isfinite().all()
    assert features.grad[0, 0] == 0


@pytest.mark.parametrize("constant", [0.0, 7.0, 1e6, -3e-9])
def test_a_constant_dimension_becomes_zero(constant):
    frames = frames_of()
    frames[:, 1] = constant
    found = fitted(frames)(torch.from_numpy(frames + np.float32(0.5)))
    assert torch.equal(found[:, 1], torch.zeros(40))


def test_a_dimension_that_is_never_finite_becomes_zero():
    frames = frames_of()
    frames[:, 1] = np.nan
    assert torch.equal(fitted(frames)(torch.ones(2, 3))[:, 1], torch.zeros(2))


@pytest.mark.parametrize("clip", [1.0, 5.0])
def test_values_far_out_are_clipped(clip):
    found = fitted(frames_of(), clip=clip)(torch.tensor([[1e9, -1e9, 100.0]]))
    assert found[0].tolist()[:2] == [clip, -clip]


def test_small_deviations_around_a_large_mean_are_kept():
    frames = (1000 + 0.05 * np.random.default_rng(0).normal(size=(200, 1))).astype(np.float32)
    assert float(fitted(frames)(torch.from_numpy(frames)).std()) == pytest.approx(1, abs=0.02)


def test_an_unfitted_scaler_changes_nothing():
    assert torch.equal(Standardizer(2)(torch.tensor([[1.0, -2.0]])), torch.tensor([[1.0, -2.0]]))


def test_no_frames_are_fitted_without_a_fuss():
    assert fitted(np.zeros((0, 2), np.float32))(torch.ones(1, 2)).isfinite().all()


def test_the_state_is_saved_with_the_model():
    scaler, other = fitted(frames_of()), Standardizer(3)
    other.load_state_dict(scaler.state_dict())
    frames = torch.from_numpy(frames_of(seed=1))
    assert torch.equal(scaler(frames), other(frames))


def test_padding_and_other_rows_enter_no_mean():
    rows = [frames_of(4, 3, 0)[:, :3], None, frames_of(2, 3, 1), np.full((3, 3), 1e6, np.float32)]
    model = toy_model(modalities=("vision",))
    model.fit_scalers({"vision": SequenceColumn.from_arrays(rows, 3)}, [0, 1, 2])
    expected = np.concatenate([rows[0], rows[2]]).mean(0)
    np.testing.assert_allclose(model.scalers["vision"].mean.numpy(), expected, rtol=1e-5)


def test_frames_of_another_size_are_refused():
    with pytest.raises(PaSEError, match=r"\(steps, 2\) were wanted, found \(4, 3\)"):
        Standardizer(2).fit(frames_of(4))
