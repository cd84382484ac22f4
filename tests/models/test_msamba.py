"""MSAmba: its scan against loops, what summaries are added up, and that order counts."""

import dataclasses

import numpy as np
import pytest
import torch

from pase_msa.models.base import build_model
from pase_msa.models.state_space import Scan, scan_together, selective_scan
from tests.reference import msamba
from tests.toys import NAMES, toy_batch, toy_inputs, toy_model, toy_task


def numpy_of(direction):
    return {
        "kernel": direction.convolution.weight[:, 0].detach().numpy(),
        "kernel_bias": direction.convolution.bias.detach().numpy(),
        "select": direction.select.weight.detach().numpy(),
        "step": direction.step.weight.detach().numpy(),
        "step_bias": direction.step.bias.detach().numpy(),
        "rate_log": direction.rate_log.detach().numpy(),
        "skip": direction.skip.detach().numpy(),
    }


def random_scan(steps=6):
    torch.manual_seed(0)
    shapes = ((2, steps, 3), (2, steps, 3), (3, 4), (2, steps, 4), (2, steps, 4))
    x, step, rate, enter, leave = (torch.randn(shape) for shape in shapes)
    return x, step.exp(), -rate.exp(), enter, leave


def test_the_selective_scan_is_that_of_three_loops():
    x, step, rate, enter, leave = random_scan()
    found = selective_scan(x, step, rate, enter, leave)
    for row in range(2):
        given = (part.double().numpy() for part in (x[row], step[row], rate, enter[row], leave[row]))
        np.testing.assert_allclose(found[row], msamba.selective_scan(*given), atol=1e-4)


def test_a_step_of_zero_leaves_the_state_as_it_is():
    x, step, rate, enter, leave = random_scan()
    step[:, 2:5] = 0.0
    found = selective_scan(x, step, rate, enter, leave)
    kept = [0, 1, 5]
    without = selective_scan(x[:, kept], step[:, kept], rate, enter[:, kept], leave[:, kept])
    torch.testing.assert_close(found[:, kept], without)


def test_a_state_that_decays_at_once_remembers_nothing():
    x, step, _, enter, leave = random_scan()
    found = selective_scan(x, step, torch.full((3, 4), -1e6), enter, leave)
    torch.testing.assert_close(found, step * x * (enter * leave).sum(2, keepdim=True))


def test_both_directions_are_those_of_naive_loops():
    scan, frames = Scan(4, 6, 3, both_ways=True), torch.randn(2, 5, 4)
    maps = [layer.weight.detach().numpy() for layer in (scan.enter, scan.leave)]
    found = scan(frames).detach()
    for row in range(2):
        expected = msamba.scan(frames[row].numpy(), *maps, numpy_of(scan.ahead), numpy_of(scan.back), 3)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_with_equal_directions_a_reversed_sequence_is_scanned_in_reverse():
    scan, frames = Scan(4, 6, 3, both_ways=True), torch.randn(2, 5, 4)
    scan.back.load_state_dict(scan.ahead.state_dict())
    torch.testing.assert_close(scan(frames.flip(1)), scan(frames).flip(1))


@pytest.mark.parametrize("both_ways", [True, False])
def test_the_first_frame_hears_of_the_last_one_in_both_directions_only(both_ways):
    scan, frames = Scan(4, 8, 3, both_ways=both_ways), torch.randn(1, 5, 4)
    changed = frames.clone()
    changed[:, -1] += 5.0
    assert torch.equal(scan(frames)[:, 0], scan(changed)[:, 0]) is not both_ways


def stream(model, parts, name, centre):
    """The summary of a modality beside a centre."""
    around = model.centres[centre]
    pair = around.pairs[name]
    states = pair.output(pair.scan(pair.norm(torch.cat([parts[name], parts[centre]], dim=2))))
    return (states + around.scan(around.norm(parts[centre])))[:, 0]


def test_scans_of_several_modalities_together_are_those_of_each():
    scans, frames = [Scan(4, 6, 3, both_ways=True) for _ in range(3)], torch.randn(3, 2, 5, 4)
    for together, scan, part in zip(scan_together(scans, list(frames)), scans, frames, strict=True):
        torch.testing.assert_close(together, scan(part))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_head_reads_each_summary_plus_those_of_its_streams(k):
    model, batch = toy_model("msamba", modalities=NAMES[:k], steps=3).eval(), toy_batch(modalities=NAMES[:k])
    parts, present = model.encode_parts(batch)
    fused = model(batch).fused.unflatten(1, (k, 6))
    for place, name in enumerate(NAMES[:k]):
        for row in range(len(batch)):
            expected = parts[name][row, 0]
            for centre in NAMES[:k]:
                if centre != name and present[centre][row] and present[name][row]:
                    expected = expected + stream(model, parts, name, centre)[row]
            torch.testing.assert_close(fused[row, place], expected)


def test_an_absent_modality_has_no_loss():
    model, batch = toy_model("msamba", modalities=NAMES[:2], steps=3), toy_batch(modalities=NAMES[:2])
    model.losses(model(batch.only(["text"])), batch)["auxiliary"].backward()
    assert not model.own_heads["audio"].weight.grad.any()
    assert not model.centre_heads["audio"].weight.grad.any()
    assert model.own_heads["text"].weight.grad.any()


def test_the_order_of_frames_is_learned_where_a_bag_of_frames_is_blind():
    """The label is which of two codes comes first."""
    batch = toy_batch(modalities=("text",), n=32)
    first = torch.arange(32) % 2 == 0
    codes = torch.zeros(32, 4, 5)
    codes[first, 0, 0], codes[first, 2, 1] = 2.0, 2.0
    codes[~first, 0, 1], codes[~first, 2, 0] = 2.0, 2.0
    features = {"text": codes + 0.05 * torch.randn(32, 4, 5)}
    labels = torch.where(first, 2.0, -2.0)
    batch = dataclasses.replace(batch, features=features, lengths={"text": torch.full((32,), 4)}, labels=labels)

    def error(name, **options):
        torch.manual_seed(0)
        inputs = toy_inputs(("text",), convolutions=0, dropout=0.0)
        model = build_model(name, toy_task(modalities=("text",)), inputs, {"width": 12, "dropout": 0.0, **options})
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            losses = model.losses(model(batch), batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        return float((model.eval()(batch).score.detach() - labels).abs().mean())

    assert error("msamba", steps=4, layers=1, state=4) < 0.5
    assert error("concat") > 1.0
