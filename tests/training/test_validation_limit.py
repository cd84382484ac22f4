"""Of a large validation split each epoch reads some videos; what is saved is of all of them."""

import json

from lightning import Callback

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare, train
from tests.toys import tiny_spec


class Read(Callback):
    """The rows of the validation passes, by epoch."""

    def __init__(self):
        self.rows = []

    def on_validation_epoch_start(self, trainer, module):
        self.rows.append([])

    def on_validation_batch_end(self, trainer, module, outputs, batch, *_):
        self.rows[-1] += batch.rows.tolist()


def config(limit, **more):
    training = TrainingConfig(epochs=2, batch_size=16, threads=1, accelerator="cpu", validation_limit=limit)
    return RunConfig(model={"name": "pase", "width": 8}, encoders={"default": {"hidden": 8}}, training=training, **more)


def test_every_epoch_reads_the_same_whole_videos():
    table, read = synthetic_table(tiny_spec()), Read()
    prepared = prepare(config(10), table)
    fit(config(10), prepared, None, progress=False, extra=[read])
    rows, whole = set(read.rows[0]), set(prepared.valid.rows.tolist())
    assert 0 < len(rows) <= 10 < len(whole)
    assert all(set(others) == rows for others in read.rows)
    videos = {table.videos[row] for row in rows}
    assert rows == {row for row in whole if table.videos[row] in videos}


def test_the_results_at_the_end_are_of_all_of_them(tmp_path):
    table = synthetic_table(tiny_spec())
    folder = train(config(10, out=str(tmp_path / "run")), table=table, progress=False)
    validation = json.loads(folder.results.read_text())["modality_report"]["counts"]
    assert validation["validation_utterances"] == len(table.rows("valid"))
