"""Text: the cache of a frozen language model, and a fine-tuned one that a saved model carries along."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pase_msa.data import FeatureTable, Schema, Utterance
from pase_msa.data import transcripts as text_module
from pase_msa.data.dataset import make_dataset
from pase_msa.data.inputs import InputSpec, describe_inputs, load_columns
from pase_msa.data.pretrained import longest_text, pool_tokens
from pase_msa.data.problem import Problem, ProblemOptions
from pase_msa.data.transcripts import TextConfig, count_cut, frozen_column, resolve_text, token_column
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model, build_model
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.optimizers import make_optimizer
from pase_msa.training.run import train
from tests.toys import HIDDEN, WORDS, make_bert, toy_task


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of two layers with random weights."""
    return str(make_bert(tmp_path_factory.mktemp("bert")))


def sentences(count=40):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, 8)))) for _ in range(count)]


def resolved(bert, texts=None, **options):
    return resolve_text(TextConfig(model=bert, **options), texts or sentences())


def no_model(*_, **__):
    raise AssertionError("the language model was loaded")


def values(column):
    return [column[i] for i in range(len(column))]


def test_the_states_of_a_frozen_model_are_read_once(bert, monkeypatch):
    first = frozen_column(sentences(), resolved(bert))
    monkeypatch.setattr(text_module, "load_model", no_model)
    second = frozen_column(sentences(), resolved(bert))
    assert all(np.array_equal(a, b) for a, b in zip(values(first), values(second), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "first"},
        {"pooling": "last"},
        {"pooling": "tokens"},
        {"lowercase": True},
        {"max_length": 5},
    ],
    ids=str,
)
def test_other_options_are_another_cache_entry(change, bert, monkeypatch):
    frozen_column(sentences(), resolved(bert))
    monkeypatch.setattr(text_module, "load_model", no_model)
    with pytest.raises(AssertionError, match="was loaded"):
        frozen_column(sentences(), resolved(bert, **change))


def test_other_texts_are_another_cache_entry(bert, monkeypatch):
    frozen_column(sentences(), resolved(bert))
    monkeypatch.setattr(text_module, "load_model", no_model)
    with pytest.raises(AssertionError, match="was loaded"):
        frozen_column([*sentences()[:-1], "not bad"], resolved(bert))


def test_another_model_is_another_cache_entry(bert, tmp_path, monkeypatch):
    frozen_column(sentences(), resolved(bert))
    other = str(make_bert(tmp_path / "other", seed=1))
    monkeypatch.setattr(text_module, "load_model", no_model)
    with pytest.raises(AssertionError, match="was loaded"):
        frozen_column(sentences(), resolved(other))


def test_the_same_model_elsewhere_is_the_same_cache_entry(bert, tmp_path, monkeypatch):
    frozen_column(sentences(), resolved(bert))
    copy = shutil.copytree(bert, tmp_path / "copy")
    monkeypatch.setattr(text_module, "load_model", no_model)
    frozen_column(sentences(), resolved(str(copy)))


def test_nothing_is_left_in_the_cache_but_whole_entries(bert):
    frozen_column(sentences(), resolved(bert))
    assert [file.suffix for file in (Path(os.environ["PASE_CACHE"]) / "text").iterdir()] == [".safetensors"]


def test_the_training_options_of_a_fine_tuned_model_do_not_split_the_cache(bert, monkeypatch):
    frozen_column(sentences(), resolved(bert))
    monkeypatch.setattr(text_module, "load_model", no_model)
    frozen_column(sentences(), resolved(bert, learning_rate=1e-3))


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_pooling_agrees_with_a_loop(pooling):
    states = torch.randn(3, 4, 2)
    lengths = [1, 3, 4]
    mask = torch.arange(4) < torch.tensor(lengths).unsqueeze(1)
    for found, row, length in zip(pool_tokens(states, mask, pooling), states, lengths, strict=True):
        expected = {"mean": row[:length].mean(0), "first": row[0], "last": row[length - 1]}[pooling]
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "tokens"])
def test_frozen_states_are_those_of_the_model_itself(pooling, bert):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    texts = ["good film", "the film was not a bad film", None, "", "bad"]
    column = frozen_column(texts, resolved(bert, pooling=pooling))
    assert column.present.tolist() == [True, True, False, False, True]
    assert column.dim == HIDDEN
    for i in (0, 1, 4):
        with torch.no_grad():
            states = model(**tokenizer(texts[i], return_tensors="pt")).last_hidden_state[0]
        expected = {"mean": states.mean(0, True), "first": states[:1], "last": states[-1:], "tokens": states}
        np.testing.assert_allclose(column[i], expected[pooling].numpy(), atol=1e-5)


def test_token_ids_are_a_ragged_column(bert):
    column = token_column(["good film", None, "   ", "bad"], resolved(bert))
    assert column.dim == 0
    assert column.lengths.tolist() == [4, 0, 0, 3]
    assert column[0].tolist() == [2, 5, 7, 3]
    assert column[1] is None


def test_long_texts_are_cut(bert):
    assert token_column(["bad " * 50], resolved(bert, max_length=6)).lengths.tolist() == [6]


def test_lowercase_acts(bert):
    cased, lowered = (token_column(["Good"], resolved(bert, lowercase=flag))[0].tolist() for flag in (False, True))
    assert cased != lowered
    assert lowered == token_column(["good"], resolved(bert))[0].tolist()


@pytest.mark.parametrize(
    ("texts", "lowers"),
    [(["GOOD FILM", "BAD"], True), (["GOOD", "Bad"], False), (["good"], False), (["GOOD", None, "123"], True)],
)
def test_text_in_capitals_throughout_is_lowered_by_itself(texts, lowers, bert):
    assert resolved(bert, texts)["lowercase"] is lowers


def test_the_own_choice_of_pooling_goes_by_what_the_model_is(bert, tmp_path):
    from transformers import GPT2Config

    GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9).save_pretrained(tmp_path / "decoder")
    assert resolved(bert)["pooling"] == "mean"
    assert resolved(str(tmp_path / "decoder"))["pooling"] == "last"


def test_tokens_of_a_fine_tuned_model_are_refused(bert):
    with pytest.raises(PaSEError, match=r"text\.frozen"):
        resolved(bert, pooling="tokens", frozen=False)


@pytest.mark.parametrize("name", ["no/such-model", "/nowhere/at/all", "nonsense"])
@pytest.mark.parametrize("read", [frozen_column, token_column])
def test_an_unknown_model_is_refused_in_a_sentence(name, read):
    options = {**vars(TextConfig(model=name)), "pooling": "mean", "lowercase": False}
    with pytest.raises(PaSEError) as caught:
        read(sentences(3), options)
    assert repr(name) in str(caught.value)
    assert "folder of a transformers model" in str(caught.value)


def table_of(count=48):
    """Text holds the sentiment, audio is noise; one text is missing."""
    rng = np.random.default_rng(1)
    schema = Schema({"audio": 3}, {"sentiment": "real"}, text=True)

    def rows():
        for i in range(count):
            split = "train" if i < 32 else "valid"
            label = [-2.0, 2.0][i % 2]
            words = None if i == 5 else f"the film was {['bad', 'good'][i % 2]}"
            audio = rng.normal(size=(2, 3)).astype(np.float32)
            yield Utterance(f"u{i}", f"{split}{i // 4}", split, {"sentiment": label}, {"audio": audio}, words)

    return FeatureTable.build(rows(), schema)


def fine_tuned(bert, **options):
    """An untrained model over a fine-tuned text encoder, and a batch."""
    table = table_of()
    text = TextConfig(model=bert, frozen=False, **options)
    inputs = describe_inputs(table, ("text", "audio"), text, {"audio": {"hidden": 6}})
    task = toy_task(modalities=("text", "audio"))
    model = build_model("pase", task, inputs, {"width": 6})
    columns = load_columns(table, inputs)
    labels = np.array(table.labels("sentiment"))
    return model, make_dataset(table, columns, table.rows("train"), labels)[list(range(8))]


def test_a_fine_tuned_model_reads_token_ids(bert):
    model, batch = fine_tuned(bert)
    assert model.inputs["text"].encoder == "language_model"
    assert batch.features["text"].dtype == torch.int64
    assert model.eval()(batch).score.isfinite().all()


def test_the_gradient_reaches_every_layer_of_the_language_model(bert):
    model, batch = fine_tuned(bert)
    losses = model.losses(model(batch), batch)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.encoders["text"].model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or "key.bias" in name, name


def test_padding_does_not_change_a_text(bert):
    model, batch = fine_tuned(bert)
    model.eval()
    longer = torch.nn.functional.pad(batch.features["text"], (0, 5))
    encoder, lengths = model.encoders["text"], batch.lengths["text"]
    assert torch.allclose(encoder(batch.features["text"], lengths), encoder(longer, lengths), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_in_evaluation_texts_of_similar_length_are_read_together(pooling, bert, monkeypatch):
    monkeypatch.setattr("pase_msa.encoders.language_model._ROWS", 3)
    model, batch = fine_tuned(bert, pooling=pooling)
    encoder = model.eval().encoders["text"]
    ids = torch.nn.functional.pad(batch.features["text"], (0, 40))
    lengths = torch.where(torch.arange(8) == 5, 0, batch.lengths["text"])  # one has no text
    seen, inner = [], encoder.model.forward
    monkeypatch.setattr(encoder.model, "forward", lambda **more: seen.append(more["input_ids"].shape) or inner(**more))
    whole = encoder(ids, lengths)
    with torch.inference_mode():
        vectors, frames = encoder(ids, lengths), encoder.frames(ids, lengths)[0]
    there = [i for i in range(8) if i != 5]
    assert torch.allclose(vectors[there], whole[there], atol=1e-5)
    assert frames.shape[:2] == ids.shape
    assert seen[0] == ids.shape
    assert [rows for rows, _ in seen[1:4]] == [3, 3, 2]
    assert all(steps <= int(lengths.max()) for _, steps in seen[1:])


def test_the_frames_of_a_text_are_its_tokens_whatever_the_padding(bert):
    model, batch = fine_tuned(bert)
    encoder, ids, lengths = model.eval().encoders["text"], batch.features["text"], batch.lengths["text"]
    frames, valid = encoder.frames(ids, lengths)
    assert frames.shape == (*ids.shape, 6)
    assert torch.equal(valid.sum(1), lengths)
    longer = encoder.frames(torch.nn.functional.pad(ids, (0, 5)), lengths)[0][:, : ids.shape[1]]
    for found, wanted, length in zip(longer, frames, lengths.tolist(), strict=True):
        assert torch.allclose(found[:length], wanted[:length], atol=1e-5)
        # pooling and the output layer are linear: the vector is the mean of the frames
    vectors = encoder(ids, lengths)
    rows = [i for i, length in enumerate(lengths.tolist()) if length]
    means = torch.stack([frames[i, : lengths[i]].mean(0) for i in rows])
    assert torch.allclose(vectors[rows], means, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_hidden_states_can_be_changed_before_a_layer(bert, layer):
    """As MAG-BERT does; without a change the states are the plain ones, and no hook is left behind."""
    encoder = fine_tuned(bert)[0].eval().encoders["text"]
    ids, lengths = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([4, 3])
    seen = []

    def change(states):
        seen.append(states.shape)
        return states.flip(2)

    plain, mask = encoder.states(ids, lengths)
    changed, _ = encoder.states(ids, lengths, change=change, layer=layer)
    assert seen == [(2, 4, HIDDEN)]
    assert not torch.allclose(changed[mask], plain[mask], atol=1e-3)
    assert torch.equal(encoder.states(ids, lengths)[0], plain)
    assert torch.equal(encoder.states(ids, lengths, change=lambda states: states, layer=layer)[0], plain)


def test_a_layer_that_the_language_model_lacks_is_refused(bert):
    encoder = fine_tuned(bert)[0].encoders["text"]
    with pytest.raises(PaSEError, match="layers 0 to 1, not 2"):
        encoder.states(torch.tensor([[2, 3]]), torch.tensor([2]), change=lambda states: states, layer=2)


def test_the_language_model_has_a_learning_rate_of_its_own(bert):
    model, _ = fine_tuned(bert, learning_rate=3e-5)
    groups = make_optimizer(model, TrainingConfig(learning_rate=1e-3)).param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    encoder = model.encoders["text"]
    assert {rate[id(p)] for p in encoder.model.parameters()} == {3e-5}
    assert rate[id(encoder.output.weight)] == 1e-3
    assert rate[id(model.head[0].weight)] == 1e-3
    assert len(rate) == len(list(model.parameters()))


def test_lower_layers_learn_more_slowly_by_the_decay(bert):
    model, _ = fine_tuned(bert, learning_rate=1e-4, layer_decay=0.5)
    groups = make_optimizer(model, TrainingConfig()).param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    language_model = model.encoders["text"].model
    lower, upper = language_model.encoder.layer
    assert {rate[id(p)] for p in upper.parameters()} == {1e-4}
    assert {rate[id(p)] for p in lower.parameters()} == {5e-5}
    assert {rate[id(p)] for p in language_model.embeddings.parameters()} == {2.5e-5}


def predicted(model, batch):
    with torch.no_grad():
        return model(batch).probabilities


def test_a_saved_fine_tuned_model_needs_nothing_but_its_folder(bert, tmp_path):
    original = shutil.copytree(bert, tmp_path / "original")
    model, batch = fine_tuned(str(original))
    torch.nn.init.normal_(model.encoders["text"].model.embeddings.word_embeddings.weight)
    expected = predicted(model.eval(), batch)
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(original)
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    text_module.load_tokenizer.cache_clear()
    loaded = Model.from_pretrained(moved)
    assert torch.equal(predicted(loaded, batch), expected)
    ids = load_columns(table_of(), loaded.inputs)["text"]
    assert ids[0].tolist() == batch.features["text"][0].tolist()


def test_a_loaded_fine_tuned_model_can_be_saved_where_it_lies_and_elsewhere(bert, tmp_path, monkeypatch):
    model, batch = fine_tuned(bert)
    expected = predicted(model.eval(), batch)
    model.save_pretrained(tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    for source, target in (("first", "second"), ("second", tmp_path / "second"), (tmp_path / "second", "second")):
        text_module.load_tokenizer.cache_clear()
        Model.from_pretrained(source).save_pretrained(target)
        text_module.load_tokenizer.cache_clear()
        loaded = Model.from_pretrained(target)
        assert torch.equal(predicted(loaded, batch), expected)
        assert token_column(["good"], loaded.inputs["text"].text)[0].tolist() == [2, 5, 3]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_on_transcripts_trains_and_its_model_loads(frozen, bert, tmp_path):
    config = RunConfig(
        out=str(tmp_path / "run"),
        text=TextConfig(model=bert, frozen=frozen, learning_rate=1e-3),
        model={"name": "pase", "width": 6},
        training=TrainingConfig(epochs=2, batch_size=16, accelerator="cpu"),
    )
    folder = train(config, progress=False, table=table_of())
    loaded = Model.from_pretrained(folder.model)
    assert loaded.inputs["text"] == InputSpec(
        dim=HIDDEN if frozen else 0,
        encoder="sequence" if frozen else "language_model",
        options=loaded.inputs["text"].options,
        text=loaded.inputs["text"].text,
    )
    columns = load_columns(table_of(), loaded.inputs)
    batch = make_dataset(table_of(), columns, np.arange(48), None)[list(range(48))]
    assert loaded(batch).score.isfinite().all()
    assert not batch.present["text"][5]


@pytest.mark.parametrize("name", ["concat", "ef_lstm"])
def test_fine_tuning_moves_the_language_model(name, bert, tmp_path):
    config = RunConfig(
        out=str(tmp_path / "run"),
        text=TextConfig(model=bert, frozen=False, learning_rate=1e-3),
        model={"name": name, "width": 6},
        training=TrainingConfig(epochs=1, batch_size=16, accelerator="cpu"),
    )
    loaded = Model.from_pretrained(train(config, progress=False, table=table_of()).model)
    from transformers import AutoModel

    before = AutoModel.from_pretrained(bert).state_dict()
    after = loaded.encoders["text"].model.state_dict()
    assert all(not torch.equal(before[name], value) for name, value in after.items() if "query.weight" in name)


def test_a_length_beyond_what_the_model_reads_is_refused_with_the_limit(bert):
    limit = longest_text(bert)
    resolved(bert, max_length=limit)
    with pytest.raises(PaSEError, match=rf"reads {limit} tokens at most; give {limit} or fewer"):
        resolved(bert, max_length=limit + 1)


def test_texts_that_are_cut_off_are_counted(bert):
    long, exact, short = " ".join(WORDS[:1] * 9), " ".join(WORDS[:1] * 4), WORDS[0]
    options = resolved(bert, max_length=6)  # with the two tokens that every text gets
    assert count_cut([long, exact, short, None, ""], options) == (1, 3)


def test_training_says_which_share_of_the_transcripts_is_cut_off(bert, caplog):
    Problem.from_table(table_of(), ProblemOptions(text=TextConfig(model=bert, max_length=4)))
    assert any("longer than text.max_length, 4 tokens" in record.getMessage() for record in caplog.records)
