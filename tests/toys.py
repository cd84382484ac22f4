"""Small inputs that several test files share."""

import dataclasses
import json

import numpy as np
import torch

from pase_msa.batch import Batch
from pase_msa.data.inputs import InputSpec
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.heldout.features import FOURIER
from pase_msa.heldout.reference import RidgeReference
from pase_msa.models.base import build_model
from pase_msa.task import Task

DIMS = {"text": 5, "audio": 4, "vision": 3}
NAMES = tuple(DIMS)
WORDS = ["good", "bad", "film", "the", "was", "a", "Good", "Bad", "not"]
HIDDEN = 16  # of the language model


def tiny_spec(kind="regression", **changes):
    """A synthetic benchmark that trains in a second."""
    modalities = {
        "text": ModalitySpec(5, length=(1, 4), noise=0.5),
        "audio": ModalitySpec(4, length=(1, 3)),
        "vision": ModalitySpec(3, length=(1, 1), missing=0.3),
    }
    classes = 3 if kind == "classification" else 7
    sizes = {"train": 48, "valid": 16, "test": 16, "utterances_per_video": 4}
    return SyntheticSpec(modalities, kind=kind, classes=classes, **(sizes | changes))


def toy_task(kind="regression", modalities=NAMES):
    if kind == "regression":
        return Task.regression(modalities, -3, 3)
    return Task.classification(modalities, ("sad", "calm", "glad"))


def toy_inputs(modalities=NAMES, **options):
    return {name: InputSpec(DIMS[name], options={"hidden": 8, **options}) for name in modalities}


def toy_model(name="pase", kind="regression", modalities=NAMES, *, seed=0, **options):
    """A model of width 6 without dropout, so that its gradients are a function of its parameters."""
    torch.manual_seed(seed)
    options = {"width": 6, "dropout": 0.0, **options}
    return build_model(name, toy_task(kind, modalities), toy_inputs(modalities, dropout=0.0), options)


def toy_reference(kind="regression", coalitions=(("text",), ("text", "audio"))):
    """A closed-form reference of random numbers; vision is one step long, so that it has no deviation over time."""
    task, rng = toy_task(kind), np.random.default_rng(0)
    sizes = {name: [dim * (1 if name == "vision" else 2), 3, name != "vision", 2] for name, dim in DIMS.items()}
    reference = RidgeReference(task, {"modalities": sizes, "coalitions": [list(names) for names in coalitions]})
    for name, buffer in reference.named_buffers():
        small = name.startswith(("center", "weights", "joint_mean"))
        buffer.copy_(torch.from_numpy((0.1 if small else 1.0) * rng.normal(size=buffer.shape)))
    for name in DIMS:
        getattr(reference, f"scale_{name}").fill_(1.0)
        getattr(reference, f"low_{name}").fill_(-10.0)
        getattr(reference, f"high_{name}").fill_(10.0)
    reference.coalition_weights.fill_(1 / len(coalitions))
    reference.offset.copy_(torch.from_numpy(rng.uniform(0, 2 * np.pi, FOURIER)))
    reference.prior.copy_(torch.from_numpy(rng.dirichlet(np.ones(task.num_classes))))
    return reference


def toy_batch(kind="regression", modalities=NAMES, n=12, *, seed=0, steps=4, missing=True):
    """Every class appears when n >= 7; with `missing`, row 0 lacks the last modality (if there are several)."""
    generator = torch.Generator().manual_seed(seed)
    features, lengths, present = {}, {}, {}
    for i, name in enumerate(modalities):
        size = steps if name != "vision" else 1
        flags = torch.ones(n, dtype=torch.bool)
        if missing and i == len(modalities) - 1 and i > 0:
            flags[0] = False
        length = torch.randint(1, size + 1, (n,), generator=generator) * flags
        values = torch.randn(n, size, DIMS[name], generator=generator)
        features[name] = values * (torch.arange(size) < length.unsqueeze(1)).unsqueeze(2)
        lengths[name], present[name] = length, flags
    if kind == "regression":
        labels = torch.arange(n).float() % 7 - 3
    else:
        labels = torch.arange(n).float() % 3
    return Batch(features, lengths, present, labels, torch.arange(n), torch.arange(n) // 2)


def rows_of(batch, index):
    """The batch of some rows, in the order given."""

    def pick(value):
        return None if value is None else value[index]

    def picked(group):
        return {name: value[index] for name, value in group.items()}

    return Batch(
        picked(batch.features),
        picked(batch.lengths),
        picked(batch.present),
        pick(batch.labels),
        pick(batch.rows),
        pick(batch.videos),
        pick(batch.speakers),
    )


def relabelled(batch, labels):
    return dataclasses.replace(batch, labels=labels)


def train_steps(model, batches, learning_rate=0.05):
    """Plain gradient steps with the momentum state, as the training module takes them."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    for batch in batches:
        outputs = model(batch)
        loss = torch.stack(list(model.losses(outputs, batch).values())).sum()
        model.update(outputs, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def parameters_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def make_bert(folder, seed=0):
    """Save a BERT of two layers with random weights and a tokenizer of a few words."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
