"""The baselines: each against the formula of its paper, and with absent modalities."""

import numpy as np
import pytest
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.base import build_model
from pase_msa.models.ef_lstm import resample
from pase_msa.models.lmf import low_rank_product
from pase_msa.models.tfn import outer_product
from pase_msa.task import Task
from tests.reference import baselines
from tests.toys import NAMES, rows_of, toy_batch, toy_inputs, toy_model, toy_task

each_k = pytest.mark.parametrize("k", [1, 2, 3, 4])


def random_vectors(k, n=5):
    return [torch.randn(n, 2 + i, dtype=torch.float64) for i in range(k)]


@each_k
def test_the_outer_product_is_every_product_of_one_entry_per_modality(k):
    vectors = random_vectors(k)
    expected = baselines.outer_product([v.numpy() for v in vectors])
    assert np.allclose(outer_product(vectors).numpy(), expected)


@each_k
def test_an_absent_modality_leaves_the_tensor_of_the_others(k):
    vectors = random_vectors(k + 1)
    vectors[-1] = torch.zeros_like(vectors[-1])
    whole = outer_product(vectors).view(5, -1, vectors[-1].shape[1] + 1)
    assert torch.equal(whole[:, :, -1], outer_product(vectors[:-1]))
    assert not whole[:, :, :-1].any()


@each_k
@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_fusion_is_a_linear_layer_over_the_full_tensor(k, rank):
    vectors = random_vectors(k)
    factors = [torch.randn(rank, v.shape[1] + 1, 4, dtype=torch.float64) for v in vectors]
    weight = baselines.full_weight([f.numpy() for f in factors])
    expected = baselines.outer_product([v.numpy() for v in vectors]) @ weight
    assert np.allclose(low_rank_product(vectors, factors).numpy(), expected)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_low_rank_fusion_begins_at_unit_size_whatever_the_number_of_modalities(k):
    names = tuple(f"m{i}" for i in range(k))
    inputs = {name: InputSpec(3) for name in names}
    model = build_model("lmf", Task.regression(names, -3, 3), inputs, {"width": 200, "rank": 8})
    absent = [torch.zeros(1, 200)] * k
    assert 0.7 < low_rank_product(absent, list(model.factors.values())).std() < 1.3


def test_a_tensor_that_is_too_large_is_refused_with_the_option_that_makes_it_smaller():
    names = ("a", "b", "c", "d")
    task, inputs = Task.regression(names, -3, 3), {name: InputSpec(3) for name in names}
    with pytest.raises(PaSEError, match=r"1185921 entries.*model\.width of at most 21"):
        build_model("tfn", task, inputs, {})
    build_model("tfn", task, inputs, {"width": 21, "hidden": 2})
    with pytest.raises(PaSEError, match="at most 21"):
        build_model("tfn", task, inputs, {"width": 22})


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_resampling_is_adaptive_average_pooling_of_each_utterance(steps):
    frames, lengths = torch.randn(5, 9, 2, dtype=torch.float64), torch.tensor([9, 1, 4, 0, 3])
    found = resample(frames, lengths, steps)
    for row, length in enumerate(lengths.tolist()):
        wanted = baselines.adaptive_pool(frames[row, :length].numpy(), steps) if length else np.zeros((steps, 2))
        assert np.allclose(found[row].numpy(), wanted)


def test_early_fusion_of_aligned_frames_is_one_lstm_over_them():
    model, batch = toy_model("ef_lstm", steps=0, hidden=5).eval(), toy_batch(steps=4)
    row = rows_of(batch, [3])
    count = max(int(row.lengths[name]) for name in NAMES)
    frames = torch.zeros(count, 6 * len(NAMES))
    for i, name in enumerate(NAMES):
        length = int(row.lengths[name])
        frames[:length, 6 * i : 6 * i + 6] = model.encoders[name].project(
            model.scalers[name](row.features[name][0, :length])
        )
    expected = model.head(model.lstm(frames[None])[0][:, -1])
    with torch.no_grad():
        assert torch.allclose(model(row).logits, expected, atol=1e-6)
        # neither padding nor the utterances beside it change that
        assert torch.allclose(model(batch).logits[3:4], expected, atol=1e-6)


def test_early_fusion_reads_frames_in_their_order():
    model, batch = toy_model("ef_lstm", steps=4).eval(), toy_batch(steps=4, n=6)
    full = torch.full((6,), 4)
    batch.lengths |= {"text": full, "audio": full}
    turned = Batch({**batch.features, "text": batch.features["text"].flip(1)}, batch.lengths, batch.present)
    with torch.no_grad():
        assert not torch.allclose(model(batch).logits, model(turned).logits)


def test_early_fusion_refuses_an_encoder_without_frames(monkeypatch):
    from pase_msa.encoders import language_model
    from pase_msa.encoders.base import Encoder

    class Vector(Encoder):
        pass

    monkeypatch.setattr(language_model, "build", lambda spec, width, config: Vector())
    inputs = toy_inputs() | {"text": InputSpec(0, "language_model")}
    with pytest.raises(PaSEError, match="needs frames, and the encoder 'language_model' of text gives a vector only"):
        build_model("ef_lstm", toy_task(), inputs, {})


@pytest.mark.parametrize(("name", "option"), [("lmf", {"rank": 0}), ("ef_lstm", {"steps": -1})])
def test_options_out_of_range_are_refused_by_name(name, option):
    ((key, value),) = option.items()
    with pytest.raises(
        PaSEError, match=rf"^model\.{key} is a whole number in \[\d, 65536\], found {value}; give such a one"
    ):
        build_model(name, toy_task(), toy_inputs(), option)


@pytest.mark.parametrize("name", ["lf_dnn", "tfn", "lmf", "ef_lstm", "concat"])
def test_any_number_of_modalities(name):
    names = tuple(f"m{i}" for i in range(5))
    inputs = {m: InputSpec(3, options={"hidden": 4}) for m in names}
    model = build_model(name, Task.regression(names, -3, 3), inputs, {"width": 4}).eval()
    features = {m: torch.randn(3, 2, 3) for m in names}
    batch = Batch(features, dict.fromkeys(names, torch.tensor([2, 1, 2])), dict.fromkeys(names, torch.ones(3).bool()))
    with torch.no_grad():
        assert model(batch).probabilities.isfinite().all()


@pytest.mark.parametrize("name", ["lf_dnn", "tfn", "lmf", "ef_lstm"])
def test_a_rank_or_width_option_changes_the_size(name):
    option = {"lf_dnn": "hidden", "tfn": "width", "lmf": "rank", "ef_lstm": "hidden"}[name]
    sizes = [sum(p.numel() for p in toy_model(name, **{option: value}).parameters()) for value in (2, 5)]
    assert sizes[0] < sizes[1]
