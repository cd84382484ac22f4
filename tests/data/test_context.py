"""Context: what it is made of and of what not, where it is absent, and that a task which needs it is learned."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import r2_score

from pase_msa import PaSERegressor
from pase_msa.cli.main import parse
from pase_msa.data import FeatureTable, Schema, Utterance
from pase_msa.data.context import context_column, context_vectors, plan_context, utterance_vectors
from pase_msa.data.problem import Problem, ProblemOptions, task_from_table
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.heldout.diagnose import diagnose
from pase_msa.models.base import Model, build_model
from pase_msa.paper import methods
from pase_msa.paper.protocol import Protocol
from pase_msa.serve.predictor import Predictor
from pase_msa.studies.study import Study, study_cells
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train
from pase_msa.training.unimodal import unimodal_config
from tests.reference.context import context as reference
from tests.toys import WORDS, make_bert

WHO = ("ann", "bob", None, "ann", "cid")
PER_VIDEO = 5


def utterances(videos=9, *, speakers=False, text=False, seed=0):
    """Videos of five utterances each: 5 for training, 2 for validation, 2 for the test; audio is two-dimensional."""
    rng = np.random.default_rng(seed)
    for i in range(videos * PER_VIDEO):
        video, place = divmod(i, PER_VIDEO)
        split = "train" if video < videos - 4 else "valid" if video < videos - 2 else "test"
        features = {"audio": rng.normal(size=(1 + i % 3, 2)), "pose": rng.normal(size=3)}
        words = " ".join(rng.choice(WORDS, 4)) if text else None
        labels = {"sentiment": float(rng.uniform(-3, 3))}
        yield Utterance(f"u{i}", f"v{video}", split, labels, features, words, WHO[place] if speakers else None)


def table_of(rows):
    rows = list(rows)
    return FeatureTable.build(rows, Schema.of(rows))


def column_of(table, mode="video", *, speakers=False, of="audio"):
    return context_column(table, {"mode": mode, "speakers": speakers}, table.sequences(of))


def by_id(table, column):
    """The context of each utterance, by its id."""
    return {name: column[row] for row, name in enumerate(table.ids)}


def same(first, second):
    return first is second is None or np.array_equal(first, second)


def changed(table, change):
    return table_of(change(table.utterance(row)) for row in range(len(table)))


# what context is


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("told_apart", [False, True])
def test_context_is_what_the_definition_says(before, told_apart):
    rng = np.random.default_rng(1)
    count = 60
    videos = rng.integers(-1, 7, count)
    speakers = rng.integers(-1, 3, count) if told_apart else None
    values, present = rng.normal(size=(count, 3)).astype(np.float32), rng.random(count) < 0.8
    values[rng.random((count, 3)) < 0.1] = np.nan
    values[~present] = np.nan
    found, exists = context_vectors(values, present, videos, speakers, before=before)
    names = [None if video < 0 else video for video in videos]
    who = None if speakers is None else [None if speaker < 0 else speaker for speaker in speakers]
    expected = reference(values.astype(np.float64), present, names, who, before)
    assert exists.tolist() == [row is not None for row in expected]
    for row, numbers in zip(found[exists], [numbers for numbers in expected if numbers is not None], strict=True):
        np.testing.assert_allclose(row, numbers, rtol=1e-5, atol=1e-6)
    assert not found[~exists].any()


def test_a_video_of_many_utterances_is_read_in_parts_and_to_a_limit():
    values = np.random.default_rng(0).normal(size=(600, 1)).astype(np.float32)
    found, exists = context_vectors(values, np.ones(600, bool), np.zeros(600, int), None, before=False)
    weights = np.exp(-np.abs(np.subtract.outer(np.arange(600), np.arange(600))) / 3)
    near = np.abs(np.subtract.outer(np.arange(600), np.arange(600)))
    near = (near > 0) & (near <= 256)
    for column, part in enumerate((near, near * weights)):
        np.testing.assert_allclose(found[:, column], (part @ values)[:, 0] / part.sum(1), rtol=1e-4, atol=1e-6)
    assert exists.all()


def test_neighbours_that_are_far_still_have_a_mean():
    present = np.zeros(200, dtype=bool)
    present[[0, 199]] = True
    values = np.where(present, np.linspace(1, 2, 200), np.nan)[:, None].astype(np.float32)
    found, _ = context_vectors(values, present, np.zeros(200, int), None, before=False)
    np.testing.assert_array_equal(found[[0, 199]], [[2, 2], [1, 1]])


def test_means_are_parted_by_who_speaks():
    values = np.array([[1.0], [2.0], [4.0], [8.0]], dtype=np.float32)
    speakers = np.array([0, 1, 0, -1])
    found, _ = context_vectors(values, np.ones(4, bool), np.zeros(4, int), speakers, before=False)
    means, flags = found[:, [0, 2, 4]], found[:, 6:]  # plain means over all, the same speaker's, the others'
    np.testing.assert_allclose(means[0], [14 / 3, 4, 2])
    np.testing.assert_allclose(means[1], [13 / 3, 0, 2.5])
    np.testing.assert_allclose(means[3], [7 / 3, 0, 0])
    assert flags.tolist() == [[1, 1], [0, 1], [1, 1], [0, 0]]


def test_a_sequence_counts_by_the_mean_of_its_known_values():
    rows = [Utterance("a", "v", "train", {}, {"x": np.array([[1, np.nan], [3, np.nan], [np.inf, 5]])})]
    rows += [Utterance("b", "v", "train", {}, {}), Utterance("c", "v", "train", {}, {"x": np.array([np.nan, 7.0])})]
    column = FeatureTable.build(rows, Schema({"x": 2}, {})).sequences("x")
    np.testing.assert_array_equal(utterance_vectors(column), [[2, 5], [np.nan, np.nan], [np.nan, 7]])


def test_speakers_are_told_apart_where_a_training_video_has_several():
    talk, monologues = table_of(utterances(speakers=True)), table_of(utterances())
    one = changed(talk, lambda row: dataclasses.replace(row, speaker=row.video))
    sizes = [
        Problem.from_table(t, ProblemOptions(context="video")).inputs["context"].dim for t in (talk, monologues, one)
    ]
    assert sizes == [6 * 2 + 2, 2 * 2, 2 * 2]


# what it is not made of


def test_labels_have_no_effect_and_unlabelled_utterances_count():
    table = table_of(utterances())
    unlabelled = changed(
        table, lambda row: dataclasses.replace(row, labels={"sentiment": None}) if row.id in ("u1", "u2") else row
    )
    options = ProblemOptions(context="video")
    first, second = Problem.from_table(table, options), Problem.from_table(unlabelled, options)
    assert len(second.train) == len(first.train) - 2
    for row in range(len(table)):
        assert same(first.columns["context"][row], second.columns["context"][row])


def test_an_utterances_own_features_never_enter_its_context():
    table = table_of(utterances())
    other = changed(
        table, lambda row: dataclasses.replace(row, features={"audio": np.full((1, 2), 9.0)}) if row.id == "u2" else row
    )
    before, after = by_id(table, column_of(table)), by_id(other, column_of(other))
    assert same(before["u2"], after["u2"])
    assert not any(same(before[name], after[name]) for name in ("u0", "u1", "u3", "u4"))
    assert same(before["u5"], after["u5"])  # of another video


def test_what_comes_later_never_changes_the_context_before():
    table = table_of(utterances(speakers=True))

    def later(row):
        return dataclasses.replace(row, features={"audio": np.full((1, 2), 9.0)}, speaker="dan")

    other = changed(table, lambda row: later(row) if row.id in ("u3", "u4") else row)
    before, after = (by_id(t, column_of(t, "before", speakers=True)) for t in (table, other))
    assert all(same(before[name], after[name]) for name in ("u0", "u1", "u2"))
    assert not same(before["u4"], after["u4"])
    assert before["u0"] is None


def test_the_order_inside_a_video_is_that_of_the_table():
    table = table_of(utterances(speakers=True))
    order = np.argsort([row % PER_VIDEO for row in range(len(table))], kind="stable")  # all first ones, all second ones
    mixed = table_of(table.utterance(int(row)) for row in order)
    for mode in ("video", "before"):
        first, second = by_id(table, column_of(table, mode)), by_id(mixed, column_of(mixed, mode))
        assert all(same(value, second[name]) for name, value in first.items())
    reversed_table = table_of(table.utterance(row) for row in reversed(range(len(table))))
    assert by_id(reversed_table, column_of(reversed_table, "before"))["u4"] is None


def test_utterances_of_another_split_are_no_context():
    rows = [Utterance(str(i), "v", ("train", "train", "test")[i], {}, {"x": np.full(1, i)}) for i in range(3)]
    column = column_of(FeatureTable.build(rows, Schema({"x": 1}, {})), of="x")
    assert [None if column[i] is None else column[i].tolist() for i in range(3)] == [[[1, 1]], [[0, 0]], None]


def test_an_utterance_without_neighbours_has_no_context():
    rows = [Utterance(str(i), video, "", {}, {"x": np.ones(1)}) for i, video in enumerate(["a", "b", "", ""])]
    rows += [Utterance("4", "c", "", {}, {"x": np.ones(1)}), Utterance("5", "c", "", {}, {})]
    column = column_of(FeatureTable.build(rows, Schema({"x": 1}, {})), of="x")
    assert column.present.tolist() == [False] * 5 + [True]


# text


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(make_bert(tmp_path_factory.mktemp("bert")))


def test_context_of_fine_tuned_text_is_that_of_the_frozen_model(bert):
    table = table_of(utterances(text=True))
    frozen, tuned, tokens = (
        Problem.from_table(table, ProblemOptions(text=TextConfig(model=bert, **text), context="video"))
        for text in ({}, {"frozen": False}, {"pooling": "tokens"})
    )
    expected, _ = context_vectors(
        utterance_vectors(frozen.columns["text"]), *(np.ones(45, bool), np.arange(45) // 5, None), before=False
    )
    assert tuned.inputs["text"].dim == 0
    assert frozen.inputs["context"].context["of"] == "text"  # the default where there is text
    for problem in (frozen, tuned, tuned.frozen(), tokens):
        found = np.concatenate([problem.columns["context"][row] for row in range(45)])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# which modalities a run has


def names(table, **options):
    return task_from_table(table, ProblemOptions(**options)).modalities


def test_context_is_added_to_the_modalities():
    table = table_of(utterances())
    assert names(table) == ("audio", "pose")
    assert names(table, context="video") == ("audio", "pose", "context")
    assert names(table, context="video", modalities=["pose"]) == ("pose", "context")
    assert names(table, context="video", modalities=["context"]) == ("context",)
    several = {"context": "before", "context_of": ["pose", "audio"]}
    assert names(table, **several) == ("audio", "pose", "context_pose", "context_audio")
    assert names(table, **several, modalities=["context_audio", "audio"]) == ("context_audio", "audio")
    assert Problem.from_table(table, ProblemOptions(**several)).inputs["context_pose"].dim == 6


def test_a_run_on_some_of_the_modalities_has_context_only_if_it_is_among_them():
    config = RunConfig(context="video", context_of=["audio"])
    table = table_of(utterances())
    for chosen in (["audio"], ["audio", "context"], ["context"]):
        assert task_from_table(table, unimodal_config(config, chosen, 1).problem).modalities == tuple(chosen)
    protocol = Protocol("mosi", None, table, [1], base={"context": "video", "context_of": ["audio"]})
    for name, options in methods.single_modalities(protocol).items():
        run = RunConfig.from_options(methods.completed(protocol, options))
        assert task_from_table(table, run.problem).modalities == (name.removesuffix(" alone"),)
    assert protocol.folder == "mosi-context-video"
    assert protocol.quoted is None  # published methods read no context


def test_a_study_with_context_keeps_the_variants_that_name_it(tmp_path):
    table_of(utterances()).save(tmp_path / "table")
    study = Study(
        "s", {"c": {"context": "video", "modalities": ["context"]}, "a": {}, "v": {"context": "video"}}, [], [1]
    )
    cells = study_cells(study, data=[str(tmp_path / "table")])
    assert len({cell.key for cell in cells}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "vidoe"}, "one of none, video, before"),
        ({"context_of": ["audio"]}, "there is no context; say --context video"),
        ({"context": "video", "context_of": []}, "one modality or more"),
        ({"context": "video", "training": TrainingConfig(shuffle_buffer=8)}, "all utterances of a video"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(PaSEError, match=message):
        RunConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "video", "context_of": ["adio"]}, "did you mean 'audio'"),
        ({"modalities": ["audio", "context"]}, "say of which with --context video"),
    ],
)
def test_a_context_that_the_data_do_not_give_is_refused(options, message):
    with pytest.raises(PaSEError, match=message):
        Problem.from_table(table_of(utterances()), ProblemOptions(**options))


def test_data_with_a_modality_of_that_name_are_refused_with_context_only():
    own = changed(table_of(utterances()), lambda row: dataclasses.replace(row, features={"context": np.ones(2)}))
    assert names(own) == ("context",)
    with pytest.raises(PaSEError, match="'context' of their own"):
        plan_context(own, "video")
    problem = Problem.from_table(table_of(utterances()), ProblemOptions(context="video"))
    model = build_model("concat", problem.task, problem.inputs, {"width": 4})
    with pytest.raises(PaSEError, match="the data have it too"):
        model.dataset(own)


def test_data_whose_utterances_are_videos_of_their_own_are_refused():
    alone = changed(table_of(utterances()), lambda row: dataclasses.replace(row, video=row.id))
    with pytest.raises(PaSEError, match="no context to learn from"):
        Problem.from_table(alone, ProblemOptions(context="video"))


def test_the_command_line_and_its_file_have_the_options(tmp_path):
    (tmp_path / "run.yaml").write_text("context: before\ncontext_of: audio,pose\n")
    options = parse(["train", "--config", str(tmp_path / "run.yaml")]).arguments
    assert (options["context"], options["context_of"]) == ("before", ["audio", "pose"])
    options = parse(["train", "--context", "video", "--context-of", "audio"]).arguments
    assert (options["context"], options["context_of"]) == ("video", ["audio"])


# a task whose signal is in the neighbours only

GROUPS = np.repeat(np.arange(60), PER_VIDEO)
QUICK = {"epochs": 3, "learning_rate": 1e-2, "model_options": {"width": 16}}


def planted(seed=0):
    """Each label is a function of what the others in the video hold; what an utterance holds itself is random."""
    own = np.random.default_rng(seed).normal(size=(len(GROUPS), 2)).astype(np.float32)
    total = np.stack([own[group == GROUPS].sum(0) for group in range(60)]).repeat(PER_VIDEO, axis=0)
    return {"audio": own}, np.clip((total - own)[:, 0], -3, 3)


X, Y = planted()
NEW, TRUTH = planted(1)


@pytest.fixture(scope="module")
def with_context():
    return PaSERegressor(context="video", **QUICK).fit(X, Y, groups=GROUPS)


@pytest.fixture(scope="module")
def folder(with_context, tmp_path_factory):
    return with_context.save(tmp_path_factory.mktemp("model"))


def planted_table(values, groups=GROUPS):
    rows = [Utterance(str(i), f"v{g}", "", {}, {"audio": values[i]}) for i, g in enumerate(groups)]
    return FeatureTable.build(rows, Schema({"audio": 2}, {}))


def test_what_only_the_neighbours_tell_is_learned_with_context(with_context):
    assert r2_score(TRUTH, with_context.predict(NEW, groups=GROUPS)) > 0.7
    without = PaSERegressor(**QUICK).fit(X, Y, groups=GROUPS)
    assert r2_score(TRUTH, without.predict(NEW)) < 0.1


def test_a_saved_model_makes_the_same_context_of_any_table(with_context, folder):
    expected = with_context.predict(NEW, groups=GROUPS)
    predicted = [prediction.score for prediction in Predictor(folder).predict(planted_table(NEW["audio"]))]
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-5)
    assert Model.from_pretrained(folder).inputs == with_context.model_.inputs


def test_a_sample_by_itself_is_predicted_without_context(with_context, folder):
    expected = with_context.predict(NEW)
    assert not np.allclose(expected, with_context.predict(NEW, groups=GROUPS))
    assert (with_context.contributions(NEW)["context"] == 0).all()
    alone = planted_table(NEW["audio"], range(len(GROUPS)))
    np.testing.assert_allclose([p.score for p in Predictor(folder).predict(alone)], expected, rtol=1e-5, atol=1e-5)


def test_an_estimator_with_context_wants_groups_and_no_validation_pair():
    for arguments in ({}, {"groups": GROUPS, "validation": (X, Y)}):
        with pytest.raises(PaSEError, match="give groups"):
            PaSERegressor(context="video", **QUICK).fit(X, Y, **arguments)


def test_utterances_that_a_server_predicts_together_are_no_context(folder):
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    from fastapi.testclient import TestClient

    from pase_msa.serve.api import build_app

    rows = [{"id": f"u{i}", "features": {"audio": [NEW["audio"][i].tolist()]}} for i in range(4)]
    with TestClient(build_app(folder), "http://localhost") as client:
        together = client.post("/predict/features", json={"utterances": rows}).json()
        alone = [client.post("/predict/features", json={"utterances": [row]}).json() for row in rows]
        assert client.get("/health").json()["modalities"] == ["audio"]
    scores = [answer["predictions"][0]["score"] for answer in alone]
    assert [one["score"] for one in together["predictions"]] == pytest.approx(scores, abs=1e-5)


def test_a_context_that_is_made_of_the_labels_is_refused(tmp_path):
    rows = list(utterances())
    for row in rows:
        row.features = {**row.features, "pose": np.full(3, row.labels["sentiment"])}
    config = RunConfig(out=str(tmp_path / "run"), modalities=["audio"], context="video", context_of=["pose"])
    with pytest.raises(PaSEError, match="pose is a function of the label"):
        train(config, progress=False, table=table_of(rows))
    assert not (tmp_path / "run").exists()


def test_a_run_with_context_is_evaluated_and_diagnosed(tmp_path):
    table = table_of(utterances())
    quick = TrainingConfig(epochs=1, threads=1)
    run = train(
        RunConfig(out=str(tmp_path / "run"), context="before", model={"name": "concat"}, training=quick),
        progress=False,
        table=table,
    )
    saved = Model.from_pretrained(run.model)
    dataset = saved.dataset(table, "test", labels=True)
    column = column_of(table, "before")
    assert all(same(dataset.columns["context"][row], column[row]) for row in dataset.rows)
    assert list(diagnose(table, context="before").modalities) == ["audio", "pose", "context"]
