"""SMIL without the meta loop: mixtures, centres and noise against naive loops, and what is reconstructed of what."""

import numpy as np
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.models.base import build_model
from pase_msa.models.smil import Centres, Noise, mixture
from pase_msa.task import Task
from tests.reference import smil as reference
from tests.toys import toy_batch, toy_model


def test_a_mixture_is_that_of_a_naive_sum_and_lies_between_the_centres():
    scores, centres = torch.randn(5, 4), torch.randn(4, 3)
    found = mixture(scores, centres)
    np.testing.assert_allclose(found.numpy(), reference.mixture(scores.numpy(), centres.numpy()), atol=1e-5)
    assert (found <= centres.amax(0) + 1e-6).all()
    assert (found >= centres.amin(0) - 1e-6).all()


def test_equal_scores_give_the_mean_of_the_centres():
    centres = torch.randn(4, 3)
    torch.testing.assert_close(mixture(torch.full((2, 4), 0.7), centres), centres.mean(0).expand(2, 3))


def test_centres_move_as_in_a_naive_loop_by_the_rows_that_count():
    vectors, here = torch.randn(40, 2), torch.arange(40) % 4 != 0
    centres = Centres(3, 2, 0.8)
    centres.values, centres.usage = torch.randn(3, 2), torch.ones(3)  # much used, so that none is drawn anew
    expected = reference.moved(centres.values.numpy(), vectors.numpy(), here.tolist(), 0.8)
    centres.update(vectors, here)
    np.testing.assert_allclose(centres.values.numpy(), expected, atol=1e-5)


def test_without_rows_that_count_no_centre_moves():
    centres = Centres(3, 2, 0.8)
    centres.values, centres.usage = torch.randn(3, 2), torch.full((3,), 1 / 3)
    before = centres.values.clone()
    centres.update(torch.randn(5, 2), torch.zeros(5, dtype=torch.bool))
    assert torch.equal(centres.values, before)


def test_centres_find_clusters_and_begin_at_vectors_of_the_first_batch():
    torch.manual_seed(0)
    middles = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    centres, first = Centres(8, 2, 0.9), middles[torch.arange(30) % 3] + 0.1 * torch.randn(30, 2)
    centres.update(first, torch.ones(30, dtype=torch.bool))
    assert torch.cdist(centres.values, first).amin(1).max() < 0.01
    for _ in range(30):
        centres.update(middles[torch.arange(30) % 3] + 0.1 * torch.randn(30, 2), torch.ones(30, dtype=torch.bool))
    distance = torch.cdist(middles, centres.values)
    assert distance.amin(1).max() < 0.3, "every cluster has a centre"
    assert distance.amin(0).max() < 0.6, "and every centre a cluster"


def test_noise_is_of_training_and_in_evaluation_a_layer_is_that_of_the_mean():
    noise, h = Noise(3), torch.randn(4, 3)
    with torch.no_grad():
        assert not torch.allclose(noise.train()(h), noise(h))
        found = noise.eval()(h)
    expected = reference.noisy(h.numpy(), noise.mean.weight.detach().numpy(), noise.mean.bias.detach().numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_model_is_ready_once_its_centres_have_seen_a_batch():
    model, batch = toy_model("smil"), toy_batch()
    assert not model.ready
    model.update(model(batch), batch)
    assert model.ready


def test_imputation_can_be_switched_off():
    model, batch = toy_model("smil").eval(), toy_batch()
    model.update(model(batch), batch)
    parts, present = model.encode(batch)
    vectors = model.imputed(parts, present)
    assert vectors["vision"][0].abs().sum() > 0
    assert torch.equal(vectors["vision"][1:], parts["vision"][1:])
    model.imputation = False
    assert model.imputed(parts, present)["vision"][0].abs().sum() == 0


def test_matching_counts_from_the_end_of_the_warm_up_on_where_something_was_hidden():
    model, batch = toy_model("smil", warm_up=1).train(), toy_batch(n=48)
    model.update(model(batch), batch)
    model.begin_epoch()
    assert model.losses(model(batch), batch)["matching"] == 0
    model.begin_epoch()
    outputs = model(batch)
    rows = outputs.state.tensors["was hidden"] > 0
    assert 0 < rows.sum() < 48
    parts = [
        (outputs.state.tensors[name][rows] - outputs.state.tensors[f"{name}/clean"][rows]).square().mean()
        for name in ("joined", "hidden")
    ]
    torch.testing.assert_close(model.losses(outputs, batch)["matching"], 0.01 * torch.stack(parts).sum())
    assert "matching" not in model.eval().losses(model(batch), batch)


def clusters(shared, n, seed):
    """Two modalities of three clusters each, the same one in both or not; the class is the cluster of audio."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randint(3, (n,), generator=generator)
    text = audio if shared else torch.randint(3, (n,), generator=generator)
    ones = torch.ones(n, dtype=torch.bool)
    x = {
        name: 2 * torch.eye(4)[number].unsqueeze(1) + 0.2 * torch.randn(n, 1, 4, generator=generator)
        for name, number in (("text", text), ("audio", audio))
    }
    return Batch(x, dict.fromkeys(x, ones.long()), dict.fromkeys(x, ones), audio.float())


def reconstruction_error(shared):
    """Error of the audio vectors that are mixed from text, relative to that of their mean, for new utterances.

    Queries and scores are trained on this error, for encoders as they are and the centres of their vectors.
    """
    torch.manual_seed(0)
    task = Task.classification(("text", "audio"), ("sad", "calm", "glad"))
    inputs = {name: InputSpec(4, options={"hidden": 8, "dropout": 0.0}) for name in task.modalities}
    model = build_model("smil", task, inputs, {"width": 6}).eval()
    with torch.no_grad():
        train, test = (model.encode(clusters(shared, *size))[0] for size in ((90, 0), (300, 1)))
    for _ in range(20):
        model.centres["audio"].update(train["audio"], torch.ones(90, dtype=torch.bool))

    def error(vectors):
        count = len(vectors["text"])
        here = {"text": torch.ones(count, dtype=torch.bool), "audio": torch.zeros(count, dtype=torch.bool)}
        found = model.imputed(vectors, here)["audio"]
        return (found - vectors["audio"]).square().mean() / vectors["audio"].var(0, correction=0).mean()

    optimizer = torch.optim.Adam([*model.queries.parameters(), *model.scores.parameters()], 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        error(train).backward()
        optimizer.step()
    return error(test).item()


def test_a_vector_can_be_mixed_from_a_modality_with_the_same_clusters():
    assert reconstruction_error(shared=True) < 0.4


def test_from_a_modality_with_other_clusters_it_is_no_better_than_the_mean():
    assert reconstruction_error(shared=False) > 0.95
