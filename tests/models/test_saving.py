"""Saved models: what an earlier version wrote is read, and what cannot be read is refused in a sentence."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pase_msa.errors import PaSEError
from pase_msa.models import saving
from pase_msa.models.base import Model
from pase_msa.models.pase import PaSE
from tests.toys import NAMES, toy_batch, toy_model, toy_reference, train_steps

LIMITS = ("reference.low_", "reference.high_")  # since format 5
BATCHES = [toy_batch(seed=seed, n=14) for seed in range(3)]


def as_format_3(folder):
    """Rewrite a saved model in the names of format 3."""
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        if name in ("bank.prototypes", "bank.initialised"):
            part = name.removeprefix("bank.")
            tensors |= {f"banks.{modality}.{part}": value[index].clone() for index, modality in enumerate(NAMES)}
            continue
        if name.startswith(LIMITS):
            continue
        for before, after in saving.RENAMED:
            if name.startswith(after):
                name = before + name.removeprefix(after)
        tensors[name] = value
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 3}))
    return tensors


@pytest.mark.parametrize("name", ["pase", "concat"])
def test_a_model_of_format_3_is_read_and_predicts_the_same(name, tmp_path):
    model = train_steps(toy_model(name), BATCHES).eval()
    model.reference = toy_reference()
    model.mixture.set({frozenset({"text"}): 0.7, frozenset(NAMES): 0.3}, reference=0.2)
    folder = model.save_pretrained(tmp_path / "model")
    names = as_format_3(folder)
    assert {"trust.members", "trust.weights", "trust.reference"} <= set(names)
    if name == "pase":
        assert {"banks.text.prototypes", "banks.vision.initialised", "row_potentials"} <= set(names)
    assert not any(key.startswith(("mixture.", "bank.", "aligner.")) for key in names)
    loaded = Model.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(loaded(BATCHES[0]).probabilities, model(BATCHES[0]).probabilities)
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if not key.startswith(LIMITS))
    assert all(value.isinf().all() for key, value in after.items() if key.startswith(LIMITS))


def test_a_model_of_format_3_is_saved_in_the_new_format(tmp_path):
    first = train_steps(toy_model(), BATCHES).save_pretrained(tmp_path / "first")
    as_format_3(first)
    second = Model.from_pretrained(first).save_pretrained(tmp_path / "second")
    assert json.loads((second / "config.json").read_text())["format"] == saving.FORMAT
    assert "bank.prototypes" in load_file(second / "model.safetensors")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    folder = toy_model().save_pretrained(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["bank.prototypes"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(PaSEError, match=r"model\.safetensors does not fit its config\.json; save the model again\.$"):
        Model.from_pretrained(folder)


def test_a_model_of_another_class_is_refused(tmp_path):
    folder = toy_model("concat").save_pretrained(tmp_path / "model")
    with pytest.raises(PaSEError, match=r"holds a Concat, not a PaSE; load it with Model\.from_pretrained\.$"):
        PaSE.from_pretrained(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(PaSEError, match=r"was to hold a saved model .*; give the `model` folder of a run\.$"):
        Model.from_pretrained(tmp_path)


def test_a_damaged_configuration_is_refused(tmp_path):
    folder = toy_model().save_pretrained(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(PaSEError, match=r"config\.json is damaged .*; save the model again\.$"):
        Model.from_pretrained(folder)
