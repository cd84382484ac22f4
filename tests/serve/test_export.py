"""A model as an ONNX file: ONNX Runtime agrees with PyTorch."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from pase_msa import plugins
from pase_msa.calibration import confidence
from pase_msa.cli.main import main
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.serve import export
from pase_msa.serve.onnx_model import OnnxModel
from tests.toys import DIMS, NAMES, toy_batch, toy_model, toy_reference, train_steps


@pytest.fixture(autouse=True)
def _no_shape_checks_in_a_trace(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def mixed(name="pase", kind="regression", **options):
    """A trained model that predicts by coalitions, its reference included."""
    model = train_steps(toy_model(name, kind, **options), [toy_batch(kind, seed=s) for s in range(3)]).eval()
    for module in model.scalers.values():
        module.mean.normal_()
        module.inverse_scale.uniform_(0.5, 2)
    model.reference = toy_reference(kind)
    model.mixture.set({frozenset(["text"]): 0.5, frozenset(["text", "audio"]): 0.3, frozenset(): 0.2}, 0.3)
    model.temperature.fill_(1.7)
    return model


def exported(model, folder):
    return OnnxModel(export.export_onnx(model, folder / "model.onnx"))


def agree(model, file, kind="regression"):
    """Batches of several sizes and lengths; modalities are absent here and there, one everywhere."""
    for n, steps in ((1, 1), (1, 6), (5, 4), (12, 9)):
        batch = toy_batch(kind, n=n, steps=steps, seed=n + steps)
        batch.present["text"][-1] = False
        rows = {
            name: [
                batch.features[name][i, : batch.lengths[name][i]].numpy() if batch.present[name][i] else None
                for i in range(n)
            ]
            for name in (NAMES if n != 5 else NAMES[:2])
        }
        batch = dataclasses.replace(batch.only(rows), videos=None)  # a file knows no conversations
        with torch.no_grad():
            outputs = model(batch)
        exported_outputs = file.predict(rows)
        np.testing.assert_allclose(exported_outputs["probabilities"], outputs.probabilities.numpy(), atol=1e-4)
        sure = confidence(model.task, outputs.logits, float(model.temperature))
        np.testing.assert_allclose(exported_outputs["confidence"], sure.numpy(), atol=1e-4)
        if kind == "regression":
            np.testing.assert_allclose(exported_outputs["score"], outputs.score.numpy(), atol=1e-4)
        else:
            assert "score" not in exported_outputs


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One model and its file: making a graph takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        model = mixed("concat")
        return model, exported(model, tmp_path_factory.mktemp("export"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("regression", {}),
        ("classification", {"fusion": "attention", "gate_prototype": "hard", "imputation": False}),
    ],
    ids=["default", "attention-hard-zero"],
)
def test_onnx_runtime_agrees_with_pytorch_on_pase(kind, options, tmp_path):
    model = mixed("pase", kind, **options)
    if options:
        model.mixture.set({})  # it then reads all modalities at once
    agree(model, exported(model, tmp_path), kind)


def test_onnx_runtime_agrees_with_pytorch_on_concatenation(shared):
    agree(*shared)


@pytest.mark.parametrize(
    "name",
    [
        *("ef_lstm", "momke"),  # recurrent, and attention over the utterances of a batch
        *(pytest.param(n, marks=pytest.mark.slow) for n in plugins.names("models") if n not in ("ef_lstm", "momke")),
    ],
)
def test_every_model_can_be_exported(name, tmp_path):
    model = toy_model(name, **({"layers": 1} if name == "momke" else {})).eval()  # each of its layers takes seconds
    agree(model, exported(model, tmp_path))


def test_the_file_tells_what_it_is(shared):
    metadata = shared[1].metadata
    assert metadata["task"]["classes"] == ["-3", "-2", "-1", "0", "1", "2", "3"]
    assert {name: held["dim"] for name, held in metadata["inputs"].items()} == DIMS
    assert metadata["temperature"] == pytest.approx(1.7)
    assert [names for names, _ in metadata["coalitions"]] == [["text"], ["audio", "text"], []]
    assert metadata["reference"] == pytest.approx(0.3)


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model, batch = toy_model("concat", modalities=("text",)).train(), toy_batch(modalities=("text",))
    model.mixture.set({frozenset(["text"]): 0.5, frozenset(): 0.5})
    before = model(batch).score
    exported(model, tmp_path)
    assert model.training
    assert torch.equal(model(batch).score, before)
    assert model.mixture.coalition_weights == {frozenset(["text"]): 0.5, frozenset(): 0.5}


def test_a_file_that_disagrees_is_not_kept(tmp_path, monkeypatch):
    model = toy_model("concat", modalities=("text",))

    def differs(task, logits, temperature):
        return logits.amax(1) + torch.compiler.is_compiling()

    monkeypatch.setattr(export, "unchecked_confidence", differs)
    with pytest.raises(PaSEError, match=r"confidence differs from PyTorch's by 1, .* so no file was written"):
        export.export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_fine_tuned_language_model_is_refused(tmp_path):
    model = toy_model("concat", modalities=("text",))
    model.inputs["text"] = InputSpec(0, "language_model")
    with pytest.raises(PaSEError, match="'text' is read by a fine-tuned language model, which cannot be exported"):
        export.export_onnx(model, tmp_path / "model.onnx")


def test_the_command_writes_beside_the_model(tmp_path, capsys):
    toy_model("concat", modalities=("text",)).save_pretrained(tmp_path / "model")
    assert main(["export", str(tmp_path)]) == 0
    assert str(tmp_path / "model.onnx") in capsys.readouterr().out
    assert OnnxModel(tmp_path / "model.onnx").modalities == ("text",)


def test_a_file_runs_without_pytorch(tmp_path):
    exported(toy_model("concat", modalities=("text",)), tmp_path)
    code = (
        "import sys; from pase_msa.serve.onnx_model import OnnxModel; import numpy as np;"
        f"found = OnnxModel({str(tmp_path / 'model.onnx')!r}, threads=1).predict({{'text': [np.ones((2, 5)), None]}});"
        "assert 'torch' not in sys.modules; print(found['score'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2,)\n", "")


def test_bad_input_of_an_exported_model_is_refused(shared):
    file = shared[1]
    with pytest.raises(PaSEError, match="reads text, audio, vision, not 'smell'"):
        file.predict({"smell": [np.ones(3)]})
    with pytest.raises(PaSEError, match=r"shape \(steps, 5\), found \(1, 4\)"):
        file.predict({"text": [np.ones(4)]})
    with pytest.raises(PaSEError, match=r"one entry .* found {'text': 1, 'audio': 2}"):
        file.predict({"text": [None], "audio": [None, None]})


def test_what_is_no_exported_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(PaSEError, match="was to be a file of `pase export`"):
        OnnxModel(tmp_path / "model.onnx")
    with pytest.raises(PaSEError, match="There is no file"):
        OnnxModel(tmp_path / "nothing.onnx")


def test_a_model_that_cannot_be_traced_is_refused(tmp_path):
    model = toy_model("concat", modalities=("text",))
    plain = type(model).forward

    class Undecided(type(model)):
        def forward(self, batch):
            outputs = plain(self, batch)
            return plain(self, batch) if bool((outputs.score > 0).any()) else outputs

    model.__class__ = Undecided
    with pytest.raises(PaSEError, match="'concat' cannot be exported"):
        export.export_onnx(model, tmp_path / "model.onnx")


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "export.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "export.md", "exec"), names)
    assert names["result"]["score"].shape == (2,)
    assert names["probabilities"].shape == names["result"]["probabilities"].shape
