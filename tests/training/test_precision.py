"""Mixed precision on a CPU: with every model and balancing method, frozen and fine-tuned."""

import pytest
import torch

from pase_msa import plugins
from pase_msa.data.transcripts import TextConfig
from pase_msa.encoders.precision import in_bfloat16
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare
from tests.encoders.test_text import table_of
from tests.toys import make_bert


def mixed(**options):
    training = TrainingConfig(epochs=1, batch_size=16, accelerator="cpu", precision="bf16-mixed")
    return RunConfig(training=training, phases=PhaseConfig(start="always"), **options)


def trained(config, table):
    """The model of a run in memory; every loss of a step was finite, or training would have ended in NaN."""
    seen = set()
    prepared = prepare(config, table)
    for encoder in prepared.model.encoders.values():
        # the last layer; a model may have no use for a modality's frames, whose encoder then has no layer
        for last in [m for m in encoder.modules() if isinstance(m, torch.nn.Linear)][-1:]:
            last.register_forward_hook(lambda module, given, result: seen.add(result.dtype))
    fit(config, prepared, None, progress=False)
    assert seen == {torch.bfloat16}
    assert all(value.isfinite().all() for value in prepared.model.state_dict().values() if value.is_floating_point())
    assert {value.dtype for value in prepared.model.parameters()} == {torch.float32}
    return prepared.model


@pytest.mark.parametrize("name", plugins.names("models"))
def test_every_model_trains_in_mixed_precision(name, score_table):
    model = trained(mixed(model={"name": name, "width": 8}, balancing={"name": "none"}), score_table)
    assert not model.mixed_precision


@pytest.mark.parametrize("method", sorted(set(plugins.names("balancing")) - {"none"}))
def test_every_balancing_method_trains_in_mixed_precision(method, score_table):
    options = {"epochs": 1} if method == "gradient_blending" else {}
    model = "pase" if method != "gradient_blending" else "concat"
    trained(mixed(model={"name": model, "width": 8}, balancing={"name": method, **options}), score_table)


@pytest.mark.parametrize("name", ["pase", "concat"])
def test_a_language_model_is_fine_tuned_in_mixed_precision(name, tmp_path):
    text = TextConfig(model=str(make_bert(tmp_path / "bert")), frozen=False)
    trained(mixed(model={"name": name, "width": 8}, text=text, balancing={"name": "none"}), table_of())


def test_the_rest_of_the_model_and_predictions_are_in_single_precision(score_table):
    config = mixed(model={"name": "pase", "width": 8}, balancing={"name": "none"})
    prepared = prepare(config, score_table)
    batch = prepared.train[list(range(8))]
    prepared.model.mixed_precision = True
    outputs = prepared.model(batch)
    assert outputs.logits.dtype == outputs.vectors["audio"].dtype == torch.float32


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"amx_bf16": False, "avx512_bf16": False}, "no instructions for bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, ""),
        ({"amx_bf16": False, "avx512_bf16": True}, ""),
        ({}, ""),
    ],
)
def test_a_processor_without_bfloat16_is_noted(there, words, score_table, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: there, raising=False)
    config = mixed(model={"name": "concat", "width": 8}, balancing={"name": "none"})
    fit(config, prepare(config, score_table), None, progress=False)
    notes = [record.getMessage() for record in caplog.records if "bf16" in record.getMessage()]
    assert len(notes) == bool(words)
    assert all(words in note for note in notes)


def test_attention_in_bfloat16_on_a_processor_is_not_the_slow_kernel():
    states = torch.randn(1, 2, 5, 8, requires_grad=True)
    with in_bfloat16("cpu"):
        attended = torch.nn.functional.scaled_dot_product_attention(states, states, states)
    assert attended.dtype == torch.bfloat16
    assert "ScaledDotProduct" not in type(attended.grad_fn).__name__
