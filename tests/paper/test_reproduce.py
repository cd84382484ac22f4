"""Tables and figures from shared runs: what is in them, what they rest on, what is trained for them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from pase_msa import plugins
from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.quoted import quoted
from pase_msa.paper.run import expand, names
from tests.contracts.test_paper import in_sessions
from tests.paper.conftest import two_modalities
from tests.toys import tiny_spec

pytestmark = pytest.mark.slow

VARIANTS_OF_TABLE3 = 8  # each version whole and minus two parts; without SGM; without the dual phase


def test_a_run_is_trained_once_for_all_tables(made):
    assert len(made.trained) == len(set(made.trained))
    assert made.after_table3 == 2 * VARIANTS_OF_TABLE3
    # concatenation and two versions of PaSE on two modalities, and concatenation on both
    assert len(made.trained) - made.after_table3 == 2 * (3 * 2 + 1)


def test_a_second_call_trains_nothing_and_writes_the_same_bytes(made):
    # the command of the last call stands in the Markdown
    before = {file.name: file.read_bytes() for file in made.out.iterdir() if file.suffix in (".csv", ".png", ".svg")}
    before["table3.md"] = (made.out / "table3.md").read_bytes()
    trained = len(made.trained)
    assert made.reproduce("table3") == 0
    assert made.reproduce("table4", "figure1", "figure3") == 0
    assert len(made.trained) == trained
    assert {name: (made.out / name).read_bytes() for name in before} == before


def test_a_lost_cell_is_made_again_and_the_table_is_the_same(made):
    table = (made.out / "table3.md").read_bytes()
    (made.out / "table3.md").unlink()
    lost = next(file for file in made.runs.glob("cells/*/result.json") if "minus_PCL" in file.read_text())
    run = made.runs / json.loads(lost.read_text())["result"]["run"]
    lost.unlink()
    run.rename(run.with_name("elsewhere"))
    trained = len(made.trained)
    assert made.reproduce("table3") == 0
    assert made.trained[trained:] == [run.name]
    made.trained.pop()
    assert (made.out / "table3.md").read_bytes() == table


def test_scores_are_those_of_the_evaluations(made):
    found = pd.read_csv(made.out / "table3.csv")
    for method, folders in (("PaSE paper", "PaSE_paper-mosi_toy"), ("- PCL", "PaSE_paper_minus_PCL-mosi_toy")):
        runs = sorted(made.runs.glob(f"runs/{folders}-seed*"))
        values = [json.loads((run / "evaluation.json").read_text())["metrics"]["mae"] for run in runs]
        row = found[(found["method"] == method) & (found["metric"] == "mae")].iloc[0]
        assert row["count"] == len(values) == 2
        np.testing.assert_allclose([row["mean"], row["sd"]], [np.mean(values), np.std(values, ddof=1)], rtol=1e-6)
        assert f"| {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |" in (made.out / "table3.md").read_text()


def test_differences_are_paired_by_seed_and_by_video(made):
    found = pd.read_csv(made.out / "table3-differences.csv")
    assert set(found["unit"]) == {"seeds", "videos"}
    assert set(found["metric"]) == {"mae", "acc2_negpos"}
    same = found.pivot(index=["baseline", "metric"], columns="unit", values="difference")
    # over the same runs and utterances, either unit has the same mean
    np.testing.assert_allclose(same["seeds"], same["videos"], atol=1e-6)
    assert (found["p_holm"] >= found["p"]).all()


def test_what_the_paper_prints_is_marked_as_quoted(made):
    for table in (3, 4):
        lines = (made.out / f"table{table}.md").read_text().splitlines()
        printed = {f"{v:.2f}" for v in quoted(table, "mosi")["value"]}
        rows = [line for line in lines if line.startswith("|") and printed & set(line.split(" | "))]
        header = next(line for line in lines if line.startswith("| modalities") or line.startswith("| method"))
        assert rows
        assert all(row.startswith("| quoted: ") for row in rows) or "quoted: " in header
    found = pd.read_csv(made.out / "table3.csv")
    assert (found["method"].str.startswith("quoted: ") == (found["source"] != "measured")).all()


def test_a_file_states_what_it_rests_on(made):
    text = (made.out / "table3.md").read_text()
    assert f"Seeds 1, 2; {2 * VARIANTS_OF_TABLE3} runs, of which 0 failed." in text
    assert "test split, which is read once per run" in text
    assert "pase reproduce table3 --data" in text
    assert "## table3\n" in (made.out / "ledger.md").read_text()


PICTURES = (
    "table4-masked table4-rates table4-imbalanced-rates figure1 figure3 figure4 figure4-gates figure5 noise-curves"
)
PICTURES += " confidence-calibration confidence-selective"


@pytest.mark.parametrize("stem", PICTURES.split())
def test_every_figure_is_there_with_its_data(made, stem):
    assert (made.out / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert (made.out / f"{stem}.svg").read_text().rstrip().endswith("</svg>")
    assert len(pd.read_csv(made.out / f"{stem}.csv"))
    assert any(f"]({stem}.png)" in file.read_text() for file in made.out.glob("*.md"))


def test_table_4_has_every_set_both_ways(made):
    found = pd.read_csv(made.out / "table4.csv")
    assert set(found["modalities"]) == {"text", "audio", "text+audio"}
    assert set(found[found["method"] == "PaSE"]["imputation"]) == {"trained", "on", "off"}
    # on all modalities nothing is masked
    whole = found[(found["modalities"] == "text+audio") & (found["method"] == "PaSE")]
    spread = whole.groupby(["seed", "metric"])["value"].agg(np.ptp)
    np.testing.assert_allclose(spread, 0, atol=1e-5)


def test_where_modalities_are_lost_the_error_stands_beside_the_accuracy(made):
    rates = pd.read_csv(made.out / "table4-rates.csv")
    for stem, metric in (("table4-lost", "acc2_negpos"), ("table4-lost-mae", "mae")):
        found = pd.read_csv(made.out / f"{stem}.csv")
        assert set(found["metric"]) == {metric}
        for row in found.itertuples():
            alike = (rates["method"] == row.method) & (rates["imputation"] == row.imputation)
            mine = rates[alike & (rates["rate"] == row.rate) & (rates["metric"] == metric)]
            np.testing.assert_allclose(row.mean, mine.groupby("seed")["value"].mean().mean(), atol=1e-5)


def test_figure_5_compares_the_same_seeds_with_and_without_sgm(made):
    found = pd.read_csv(made.out / "figure5-ends.csv")
    assert list(found["method"]) == ["with SGM", "without SGM"] * 2
    np.testing.assert_allclose(found["share of text"] + found["share of audio"], 1, atol=1e-6)


def test_validation_only_reads_no_test_split_and_trains_nothing_anew(made, tmp_path, monkeypatch):
    monkeypatch.setattr("pase_msa.studies.training_cell.evaluate", lambda *_, **__: pytest.fail("test split read"))
    trained = len(made.trained)
    more = ("--validation-only", "--out", str(tmp_path / "v"), "--runs", str(made.runs))
    assert made.reproduce("table3", "figure3", more=more) == 0
    assert len(made.trained) == trained
    text = (tmp_path / "v" / "table3.md").read_text()
    assert "the test split was not read" in text
    assert "over videos" not in text
    points = pd.read_csv(tmp_path / "v" / "figure3.csv")
    assert set(points["split"]) == {"valid"}
    assert not {"id", "score"} & set(points)  # of data under licence neither may be passed on


def test_only_the_methods_that_are_named_are_in_a_table(made, tmp_path):
    trained = len(made.trained)
    chosen = "PaSE paper,PaSE paper - PCL"
    more = ("--methods", chosen, "--out", str(tmp_path / "some"), "--runs", str(made.runs))
    assert made.reproduce("table3", more=more) == 0
    assert len(made.trained) == trained
    found = pd.read_csv(tmp_path / "some" / "table3.csv")
    assert set(found[found["source"] == "measured"]["method"]) == {"PaSE paper", "- PCL"}
    whole = pd.read_csv(made.out / "table3.csv").merge(found, on=["method", "metric", "source"])
    np.testing.assert_array_equal(whole["mean_x"], whole["mean_y"])
    text = (tmp_path / "some" / "table3.md").read_text()
    assert f"2 of {VARIANTS_OF_TABLE3} methods were chosen" in text
    assert f"--methods '{chosen}'" in text


def test_table_5_without_a_model_is_quoted_and_marked_as_such(made):
    assert made.reproduce("table5") == 0
    text = (made.out / "table5.md").read_text()
    assert "| quoted: GPT-4o-mini | 86.54 |" in text
    assert "No language model was asked" in text
    assert "asked |" not in text


def test_table_5_asks_the_models_that_are_named(made, tmp_path, monkeypatch):
    def ask(table, split, model, *, task, **_):
        rows = table.rows(split)
        truth = [float(table.labels(task.label)[row]) for row in rows]
        # right about everything but the first, where it says nothing
        status = ["refused", *["answered"] * (len(truth) - 1)]
        frame = {"label": truth, "prediction": [0.0, *truth[1:]], "status": status}
        more = {"finish": "stop", "tokens_in": 1, "tokens_out": 1, "cached": False}
        return pd.DataFrame(frame).assign(**more)

    monkeypatch.setattr("pase_msa.paper.table5.predict_split", ask)
    assert made.reproduce("table5", more=("--language-model", "toy-lm")) == 0
    text = (made.out / "table5.md").read_text()
    assert "| toy-lm, asked | " in text
    assert "15 of 16" in text


def test_contributions_stand_beside_their_ground_truth(made, monkeypatch, tmp_path):
    from pase_msa.paper import ground_truth

    whole = ground_truth.grid
    monkeypatch.setattr(ground_truth, "grid", lambda spec: whole(spec, dominance=(0.0,), noise=(0.4, 1.6)))
    assert made.reproduce("ground_truth", seeds=1) == 0
    found = pd.read_csv(made.out / "planted-recovery.csv")
    assert set(found["noise"]) == {0.4, 1.6}
    assert set(found["method"]) == {"concat", "PaSE paper", "PaSE"}
    assert len(found) == 2 * 3 * 2


def test_unknown_names_and_unfit_data_are_refused_in_a_sentence(made, capsys):
    assert main(["reproduce", "table9", "--data", str(made.data)]) == 2
    assert "table9" in capsys.readouterr().err
    assert made.reproduce("table2") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("pase: Table 2 is about emotions, and the label 'sentiment' of mosi_toy holds scores")


def test_groups_hold_what_is_on_disk():
    found = expand(["table3", "all"])
    assert set(found) == set(names())
    assert found.pop("table3")
    assert not any(found.values())
    assert set(expand(["extra"])) == {name for name in names() if not name.startswith(("table", "figure"))}


def test_fine_tuned_text_keeps_to_the_parts_that_the_paper_names():
    variants = plugins.load("paper", "table3").variants
    frozen, tuned = (
        variants(Protocol("toy", None, synthetic_table(tiny_spec()), [1], text=text))
        for text in ("frozen", "fine-tuned")
    )
    assert all(frozen[name] == options for name, options in tuned.items())
    assert {name.removeprefix("PaSE").strip() for name in tuned} == {
        "", "- PCL", "- CAL", "+ Con", "paper", "paper - PCL", "paper - CAL", "paper + Con", "paper - SGM",
    }  # fmt: skip


def test_table_1_has_every_baseline_on_disk():
    protocol = Protocol("toy", None, synthetic_table(tiny_spec()), [1])
    variants = plugins.load("paper", "table1").variants(protocol)
    used = {(v["model"]["name"], v.get("balancing", {}).get("name")) for v in variants.values()}
    assert {model for model, _ in used} == {*plugins.names("models"), "ridge"}
    assert {method for _, method in used if method} | {"held_out"} == set(plugins.names("balancing"))
    assert {("pase", "sgm"), ("pase", "held_out")} <= used


def test_table_2_leaves_one_session_out_at_a_time(made, tmp_path, capsys):
    from pase_msa.data.table import FeatureTable
    from pase_msa.paper.table2 import sessions

    data = tmp_path / "iemocap_toy"
    in_sessions(synthetic_table(two_modalities("classification", train=60)), 3).save(data)
    more = ("--out", str(tmp_path / "out"), "--runs", str(tmp_path / "home"))
    assert made.reproduce("table2", data=data, seeds=1, more=more) == 0
    folds = sorted((tmp_path / "home" / "sessions").glob("*/*"))
    tested = []
    for fold in folds:
        table = FeatureTable.load(fold)
        found = sessions(table)
        by_split = {s: {found[row] for row in table.rows(s)} for s in ("train", "valid", "test")}
        assert [len(by_split[s]) for s in ("train", "valid", "test")] == [1, 1, 1]
        assert set.union(*by_split.values()) == {"ses01", "ses02", "ses03"}
        tested += by_split["test"]
    assert sorted(tested) == ["ses01", "ses02", "ses03"]
    found = pd.read_csv(tmp_path / "out" / "table2.csv")
    runs = [json.loads(f.read_text()) for f in (tmp_path / "home" / "runs").glob("PaSE-*/evaluation.json")]
    for name, row in runs[0]["metrics"]["per_class"].items():
        values = [run["metrics"]["per_class"][name]["f1"] for run in runs]
        mine = found[(found["method"] == "PaSE") & (found["class"] == name)].iloc[0]
        np.testing.assert_allclose(mine["mean"], np.mean(values), rtol=1e-6)
        assert row["support"] > 0
    assert "| quoted: GCNet |" in (tmp_path / "out" / "table2.md").read_text()
    gaps = pd.read_csv(tmp_path / "out" / "table2-differences.csv").set_index(["baseline", "metric", "unit"])
    hits = [pooled_accuracy(tmp_path / "home", name) for name in ("PaSE", "concat")]
    videos = gaps.loc[("concat", "accuracy", "videos")]
    assert videos["difference"] == pytest.approx(hits[0] - hits[1])
    assert videos["count"] == len(set(FeatureTable.load(data).videos))
    assert gaps.loc[("concat", "accuracy", "data sets"), "count"] == 3


def pooled_accuracy(home, method):
    utterances = pd.concat([pd.read_csv(file) for file in (home / "runs").glob(f"{method}-*/predictions.csv")])
    assert not utterances["id"].duplicated().any()
    return (utterances["truth"] == utterances["label"]).mean()


def test_table_2_wants_sessions():
    table = synthetic_table(tiny_spec("classification"))
    protocol = Protocol("toy", None, table, [1])
    with pytest.raises(PaSEError, match="recording session"):
        plugins.load("paper", "table2").variants(protocol)


def test_methods_on_fewer_utterances_are_named_and_not_compared_by_video(made, tmp_path):
    spec = two_modalities()
    audio = dataclasses.replace(spec.modalities["audio"], missing=0.4)
    synthetic_table(dataclasses.replace(spec, modalities={**spec.modalities, "audio": audio}), path=tmp_path / "holes")
    more = ("--out", str(tmp_path / "out"), "--runs", str(tmp_path / "home"))
    assert made.reproduce("table1", data=tmp_path / "holes", seeds=2, more=more) == 0
    found = pd.read_csv(tmp_path / "out" / "table1-differences.csv")
    compared = found[found["unit"] == "videos"]["baseline"].unique()
    assert "concat" in compared
    assert "audio alone" not in compared
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "measured on fewer, those that have their modalities: audio alone (" in text
    assert text.count("(best baseline)") == 2
    scores = pd.read_csv(tmp_path / "out" / "table1.csv")
    assert {"parameters", "seconds_an_epoch", "peak_memory_mb"} <= set(scores["metric"])
