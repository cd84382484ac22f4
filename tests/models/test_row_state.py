"""State per training row: found by row number, in a checkpoint and not in a saved model."""

import dataclasses

import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.models.concat import Concat
from pase_msa.models.row_state import RowState
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.module import SentimentModule
from pase_msa.training.run import prepare
from tests.toys import toy_batch, toy_model


def state_of(rows):
    state = RowState(torch.tensor(rows))
    state.register_buffer("seen", torch.zeros(len(rows)))
    return state


def test_a_row_is_found_by_its_number_in_the_table():
    state = state_of([7, 2, 40])
    assert state.positions(torch.tensor([40, 2])).tolist() == [2, 0]


@pytest.mark.parametrize(("rows", "words"), [(None, "row numbers"), (torch.tensor([2, 3]), "not among")])
def test_rows_that_it_was_not_told_of_are_refused(rows, words):
    with pytest.raises(PaSEError, match=words):
        state_of([7, 2]).positions(rows)


def test_it_is_part_of_a_checkpoint_and_not_of_the_weights():
    model = toy_model("concat")
    model.keep_row_state(state_of([0, 1]))
    assert not any("row" in name for name in model.state_dict())
    assert "row_state.seen" in SentimentModule(model, TrainingConfig()).state_dict()


def test_a_model_is_told_of_the_training_rows_and_labels(score_table, monkeypatch):
    told = []
    monkeypatch.setattr(Concat, "fit_rows", lambda self, rows, labels: told.append((rows, labels)))
    prepared = prepare(RunConfig(model={"name": "concat"}), score_table)
    rows, labels = told[0]
    assert rows.tolist() == prepared.train.rows.tolist()
    assert torch.equal(labels, prepared.train.targets())


def test_a_model_that_reads_conversations_gets_whole_videos(score_table, monkeypatch):
    monkeypatch.setattr(Concat, "conversations", True)
    seen = []
    losses = Concat.losses

    def record(self, outputs, batch):
        seen.append(batch.videos.tolist())
        return losses(self, outputs, batch)

    monkeypatch.setattr(Concat, "losses", record)
    config = RunConfig(model={"name": "concat"}, training=TrainingConfig(epochs=1, batch_size=8, accelerator="cpu"))
    prepared = prepare(config, score_table)
    fit(config, prepared, None, progress=False)
    assert len(seen) > 2
    assert all(not set(a) & set(b) for i, a in enumerate(seen) for b in seen[:i])
    assert prepared.model.dataset(score_table, "test").whole_videos


def test_frames_are_masked_by_length_and_presence():
    model, batch = toy_model("ef_lstm"), toy_batch()
    frames, valid, present = model.encode_frames(batch)
    assert list(frames) == ["text", "audio", "vision"]
    assert frames["text"].shape == (12, 4, 6)
    assert torch.equal(valid["text"].sum(1), batch.lengths["text"])
    assert not frames["text"][~valid["text"]].any()
    assert not valid["vision"][~present["vision"]].any()
    withheld = dataclasses.replace(batch).only(["text"])
    assert not model.encode_frames(withheld)[0]["audio"].any()
