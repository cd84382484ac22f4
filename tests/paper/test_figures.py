"""Figures 1, 3, 4 and 5."""

import numpy as np
import pandas as pd
import pytest
import torch

from pase_msa.errors import PaSEError
from pase_msa.evaluation.loaded import load_run, score_table
from pase_msa.files import read_json
from pase_msa.paper import figure1, figure3, figure4, figure5
from pase_msa.training.run_folder import RunFolder
from tests.reference.separation import between_within


def scores(rows):
    return pd.DataFrame(rows, columns=["method", "seed", "modalities", "value"]).assign(metric="f1_negpos")


def test_gains_are_paired_by_seed():
    frame = figure1.measure(
        scores(
            [
                ("x", 1, "text", 0.70),
                ("x", 1, "text+audio", 0.75),
                ("x", 1, "vision+text", 0.60),
                ("x", 2, "text", 0.80),
                ("x", 2, "audio+text", 0.81),
                ("x", 3, "text+audio", 0.99),  # without a base: nothing to compare with
                ("x", 1, "audio", 0.5),
            ]
        )
    )
    found = {(row.added, row.seed): row.value for row in frame.itertuples()}
    assert found == pytest.approx({("audio", 1): 5.0, ("vision", 1): -10.0, ("audio", 2): 1.0})


def test_a_fall_of_the_error_is_a_gain_and_any_modalities_can_be_the_base():
    table = scores([("x", 1, "a+b", 0.9), ("x", 1, "c+a+b", 0.7), ("x", 1, "a+c", 0.1)]).assign(metric="mae")
    frame = figure1.measure(table, "mae", base="b+a")
    assert list(frame["added"]) == ["c"]
    assert list(frame["value"]) == pytest.approx([0.2])


def test_gains_of_a_table_of_runs(runs):
    table = score_table([runs["pase"], runs["concat"]])
    assert set(table["modalities"]) == {"text+audio+vision"}
    with pytest.raises(PaSEError, match="text alone"):
        figure1.measure(table)
    with pytest.raises(PaSEError, match="several"):
        figure1.measure(pd.concat([table, table]))
    with pytest.raises(PaSEError, match="not measured"):
        figure1.measure(table, "wa")


def test_fused_features_are_the_input_of_the_head(runs):
    run = runs["pase"]
    found = figure3.fused(run)
    with torch.no_grad():
        logits = run.model.head(torch.from_numpy(found).float())
    torch.testing.assert_close(logits, run.logits())


def test_separation_is_measured_on_the_features_and_on_the_plane(runs):
    chosen = [runs["pase"], runs["concat"]]
    points = figure3.measure(chosen)
    apart = figure3.separation(chosen, points)
    assert set(apart["space"]) == {"fused", "plane"}
    ratio = apart[(apart["measure"] == "ratio") & (apart["method"] == "pase")].set_index("space")["value"]
    mine = points[points["method"] == "pase"]
    names = mine["group"].tolist()
    assert ratio["fused"] == pytest.approx(between_within(figure3.fused(runs["pase"]), names))
    assert ratio["plane"] == pytest.approx(between_within(mine[["x", "y"]].to_numpy(dtype=float), names))
    assert figure3.measure(chosen).equals(points)


def test_the_polarity_is_that_of_the_label(runs):
    points = figure3.measure([runs["pase"]])
    polarity = np.select([points["score"] < 0, points["score"] > 0], ["negative", "positive"], "neutral")
    assert (points["group"] == polarity).all()
    assert set(figure3.measure([runs["classes"]])["group"]) <= set(runs["classes"].task.classes)


def test_separate_groups_are_separable_and_mixed_ones_are_not():
    rng = np.random.default_rng(0)
    names, videos = np.array(["a", "b"])[np.arange(400) % 2], np.arange(400) // 8
    noise = rng.normal(size=(400, 3))
    mixed = figure3.separation_metrics(noise, names, videos)
    assert abs(mixed["silhouette"]) < 0.02
    assert mixed["ratio"] < 0.02
    assert mixed["probe"] == pytest.approx(0.5, abs=0.09)
    apart = figure3.separation_metrics(noise + 20.0 * (names == "a")[:, None], names, videos)
    assert apart["silhouette"] > 0.8
    assert apart["knn"] == apart["probe"] == 1
    assert apart["chance"] == 0.5


def test_neighbours_of_the_same_video_do_not_count():
    # each video has a place of its own and one class: neighbours of the same video would reveal it
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(40), 10)
    names = np.array(["a", "b"])[rng.integers(2, size=40)][videos]
    points = 5 * rng.normal(size=(40, 3))[videos] + 0.01 * rng.normal(size=(400, 3))
    assert figure3.separation_metrics(points, names, videos)["knn"] < 0.75


def test_one_group_is_refused():
    with pytest.raises(PaSEError, match="two groups"):
        figure3.separation_metrics(np.zeros((20, 2)), np.array(["a"] * 20), np.arange(20))


def test_gates_are_those_of_the_network(runs):
    frame = figure4.measure([runs["classes"]])
    assert len(frame) == 3 * 3
    assert frame["gate"].between(0, 1).all()
    weighted = frame.assign(total=frame["share"] * frame["count"]).groupby("group")["total"].sum()
    # shares of an utterance's modalities add up to one, and every utterance has text here
    utterances = frame[frame["modality"] == "text"].set_index("group")["count"]
    assert weighted.to_dict() == pytest.approx(utterances.to_dict())
    by_hand = torch.cat([output.gates["text"].mean(1) for output in runs["classes"].outputs(network=True)])
    first = frame.iloc[0]
    chosen = runs["classes"].labels == runs["classes"].task.classes.index(first["group"])
    assert first["gate"] == pytest.approx(float(by_hand[chosen].mean()))


def test_a_model_without_gates_is_refused_in_a_sentence(runs):
    with pytest.raises(PaSEError, match="concat has no gates: this figure wants PaSE"):
        figure4.measure([runs["concat"]])


def test_contributions_over_the_epochs_are_those_of_the_log(folders):
    frame = figure5.measure({"on": folders["pase"], "off": folders["plain"]}, "mae")
    psi = frame[(frame["quantity"] == "psi") & (frame["method"] == "on")]
    logged = RunFolder(folders["pase"]).history()
    assert len(psi) == 3 * len(logged)
    assert list(psi[psi["modality"] == "text"]["value"]) == [row["psi/text"] for row in logged]
    assert list(dict.fromkeys(psi["modality"])) == ["text", "audio", "vision"]
    for name, active in (("on", True), ("off", False)):
        mine = frame[frame["method"] == name]
        assert set(mine["active"]) == {active}
    assert read_json(RunFolder(folders["plain"]).results)["phases"]["switched_at"] is None


def test_a_log_without_shapley_values_or_the_metric_is_refused(folders):
    with pytest.raises(PaSEError, match="no Shapley values"):
        figure5.measure({"concat": folders["concat"]})
    with pytest.raises(PaSEError, match="no val/wa"):
        figure5.measure({"pase": folders["pase"]}, "wa")


def test_other_data_and_an_empty_split_are_refused(folders, score_table, class_table):
    assert len(load_run(folders["pase"], data=score_table).dataset)
    with pytest.raises(PaSEError, match="not those"):
        load_run(folders["pase"], data=class_table)
    with pytest.raises(PaSEError, match="no split 'nothing'"):
        load_run(folders["pase"], "nothing")  # type: ignore[arg-type]
