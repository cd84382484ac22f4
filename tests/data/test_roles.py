"""What readers take for what: judged by name and content, stated, and never silently."""

import pickle

import h5py
import numpy as np
import pytest

from pase_msa.cli.main import main
from pase_msa.data import open_table
from pase_msa.errors import PaSEError

SIZES = {"train": 8, "valid": 4, "test": 4}
RNG = np.random.default_rng(0)
SPREAD = RNG.normal(size=40)


def mmsa(tmp_path, edit, sizes=SIZES):
    content = {}
    for split, n in sizes.items():
        part = {
            "id": [f"{split}{i // 2}$_${i}" for i in range(n)],
            "raw_text": [f"words number {i}" for i in range(n)],
            "audio": RNG.normal(size=(n, 6, 5)).astype("f4"),
            "regression_labels": RNG.uniform(-3, 3, n).astype("f4"),
        }
        edit(part, n)
        content[split] = part
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(content))
    return open_table(path)


def put(**values):
    """An edit that adds parts, each a function of n."""
    return lambda part, n: part.update({key: make(n) for key, make in values.items()})


@pytest.mark.parametrize(
    "name",
    [
        "labels",
        "class_labels",
        "regressionLabels2",
        "annotation_scores",
        "y",
        "targets",
        "emotion",
        "valence",
        "scores",
    ],
)
def test_what_is_called_as_labels_are_is_no_modality_whatever_its_shape(name, tmp_path):
    table = mmsa(tmp_path, put(**{name: lambda n: RNG.normal(size=(n, 1, 1))}))
    assert list(table.modalities) == ["audio"]
    assert name in table.meta["roles"]["labels"]


@pytest.mark.parametrize(
    ("name", "role"),
    [("audio_mask", "masks"), ("padding_mask", "masks"), ("seq_len", "lengths"), ("text_lengths", "lengths")],
)
def test_masks_and_lengths_are_no_modality(name, role, tmp_path):
    table = mmsa(tmp_path, put(**{name: lambda n: np.ones((n, 6, 1))}))
    assert list(table.modalities) == ["audio"]
    assert name in table.meta["roles"][role]


@pytest.mark.parametrize("name", ["emotion2vec", "emotion_features", "video", "name_embedding", "glove", "index_feats"])
def test_features_may_have_words_of_labels_and_ids_in_their_name(name, tmp_path):
    assert mmsa(tmp_path, put(**{name: lambda n: RNG.normal(size=(n, 3, 20))})).modalities[name] == 20


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [RNG.normal(size=(3, 4)) for _ in range(n)],
        lambda n: [RNG.normal(size=(1 + i % 3, 4)).tolist() for i in range(n)],
        lambda n: np.array([RNG.normal(size=(1 + i % 3, 4)) for i in range(n)], dtype=object),
        lambda n: RNG.normal(size=(n, 4)),
        lambda n: RNG.integers(0, 9, (n, 5, 4)),
        lambda n: RNG.integers(0, 2, (n, 4)).astype(bool),
        lambda n: [None, *(RNG.normal(size=(2, 4)) for _ in range(n - 1))],
        lambda n: tuple(RNG.normal(size=(2, 4)).astype("f2") for _ in range(n)),
    ],
    ids=["arrays", "lists", "objects", "vectors", "integers", "booleans", "none", "tuple"],
)
def test_features_come_in_many_containers(make, tmp_path):
    table = mmsa(tmp_path, put(vision=make))
    assert table.modalities == {"audio": 5, "vision": 4}
    assert table.sequences("vision").present.sum() >= 13


def test_an_empty_entry_is_an_absent_modality(tmp_path):
    def edit(part, n):
        part["vision"] = [np.zeros((0, 4)), [], *(RNG.normal(size=(2, 4)) for _ in range(n - 2))]

    assert mmsa(tmp_path, edit).sequences("vision").present.tolist()[:3] == [False, False, True]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (lambda n: RNG.normal(size=n), "shape"),
        (lambda n: ["x"] * n, "a str"),
        (lambda n: {"a": 1}, "a dict"),
        (lambda n: RNG.normal(size=(n, 2, 2, 2)), "shape"),
        (lambda n: [RNG.normal(size=(2, 2))] * (n - 1), "entries for"),
    ],
)
def test_what_is_left_over_is_named_with_the_reason(value, why, tmp_path):
    table = mmsa(tmp_path, put(extra_thing=value))
    (entry,) = [item for item in table.meta["roles"]["left over"] if item.startswith("extra_thing")]
    assert why in entry


def test_a_part_that_is_no_split_is_named(tmp_path):
    table = mmsa(tmp_path, lambda part, n: None, {**SIZES, "trainval": 3})
    assert set(table.splits.tolist()) == {"train", "valid", "test"}
    assert any("trainval" in item for item in table.meta["roles"]["left over"])


@pytest.mark.parametrize("name", ["val", "dev", "validation", "Valid", " development "])
def test_split_names_of_the_field_are_understood(name, tmp_path):
    assert set(mmsa(tmp_path, lambda part, n: None, {"training": 8, name: 4}).splits.tolist()) == {"train", "valid"}


def test_two_parts_of_one_split_are_refused(tmp_path):
    with pytest.raises(PaSEError, match="two parts that are the valid split"):
        mmsa(tmp_path, lambda part, n: None, {"train": 8, "val": 4, "dev": 4})


@pytest.mark.parametrize("unknown", [None, float("nan"), "", "NA", " "])
def test_labels_that_are_not_there_are_unknown(unknown, tmp_path):
    def edit(part, n):
        part["regression_labels"] = [unknown, *part["regression_labels"].tolist()[1:]]

    assert mmsa(tmp_path, edit).labels("sentiment")[0] is None


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "  "])
def test_a_transcript_that_is_not_there_is_no_text(nothing, tmp_path):
    def edit(part, n):
        part["raw_text"][0] = nothing

    assert mmsa(tmp_path, edit).texts[0] is None


def test_features_of_another_size_in_another_split_are_refused(tmp_path):
    def edit(part, n):
        part["vision"] = RNG.normal(size=(n, 3, n))

    with pytest.raises(PaSEError, match="'vision' has features of size 4 in the valid split and 8"):
        mmsa(tmp_path, edit)


def gcnet(tmp_path, labels, **changes):
    ids = {v: [f"{v}_{j}" for j in range(3)] for v in ("v0", "v1", "v2", "v3")}
    sets = changes.get("sets", ({"v0", "v1"}, {"v2"}, {"v3"}))
    content = [ids, dict.fromkeys(ids, labels), dict.fromkeys(ids, ["M"] * 3), dict.fromkeys(ids, ["hi"] * 3), *sets]
    folder = tmp_path / "features" / "wav2vec-UTT"
    folder.mkdir(parents=True)
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps(content))
    for names in ids.values():
        for name in names:
            np.save(folder / f"{name}.npy", RNG.normal(size=4))
    return open_table(tmp_path)


@pytest.mark.parametrize(
    ("labels", "kind", "first"),
    [
        ([-1, 2, 3], "class", None),
        ([-3, 0, 3], "real", -3.0),
        (["happy", "sad", "angry"], "class", "happy"),
        (["NA", "sad", "angry"], "class", None),
        ([0.5, 1.0, -1.0], "real", 0.5),
        (np.array([1, 0, 2]), "class", "1"),
    ],
)
def test_gcnet_labels_below_zero_are_unknown_or_scores_and_never_the_last_class(labels, kind, first, tmp_path):
    table = gcnet(tmp_path, labels)
    ((name, found),) = table.schema.labels.items()
    assert found == kind
    assert table.labels(name)[0] == first


def test_a_video_in_two_sets_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="'v2' is in the train and in the valid set"):
        gcnet(tmp_path, [0, 1, 2], sets=({"v0", "v1", "v2"}, {"v2"}, {"v3"}))


def csd(folder, name, entries):
    with h5py.File(folder / f"{name}.csd", "w") as file:
        data = file.create_group(name).create_group("data")
        for key, (intervals, features) in entries.items():
            entry = data.create_group(key)
            entry["intervals"], entry["features"] = intervals, features


def test_an_extraction_that_failed_leaves_the_modality_absent(tmp_path):
    steps = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], 1)
    csd(tmp_path, "FACET", {"a": (np.zeros((0, 2)), np.zeros((0, 4))), "b": (steps, RNG.normal(size=(10, 4)))})
    csd(tmp_path, "LABELS", {v: (np.array([[0, 5.0]]), np.ones((1, 1))) for v in "ab"})
    table = open_table(tmp_path)
    assert table.modalities == {"FACET": 4}
    assert table.sequences("FACET").present.tolist() == [False, True]


def test_a_sequence_without_anything_is_left_over(tmp_path):
    csd(tmp_path, "FACET", {"a": (np.zeros((0, 2)), np.zeros((0, 4)))})
    csd(tmp_path, "COVAREP", {"a": (np.array([[0, 5.0]]), np.ones((1, 3)))})
    csd(tmp_path, "LABELS", {"a": (np.array([[0, 5.0]]), np.ones((1, 1)))})
    table = open_table(tmp_path)
    assert list(table.modalities) == ["COVAREP"]
    assert any(item.startswith("FACET") for item in table.meta["roles"]["left over"])


@pytest.mark.parametrize("token", ["NW", "sp", "nw", " SP ", "<unk>", "sil"])
def test_tokens_that_are_no_words_are_dropped(token, tmp_path):
    times = np.stack([np.arange(3.0), np.arange(1.0, 4.0)], 1)
    csd(tmp_path, "words", {"v": (times, np.array([["so"], [token], ["good"]], dtype="S8"))})
    csd(tmp_path, "COVAREP", {"v": (times, RNG.normal(size=(3, 2)))})
    csd(tmp_path, "LABELS", {"v": (np.array([[0, 3.0]]), np.ones((1, 1)))})
    table = open_table(tmp_path)
    assert table.texts == ["so good"]
    assert table.sequences("COVAREP").lengths.tolist() == [2]


def folder(root, columns, arrays, n=40):
    root.mkdir(exist_ok=True)
    lines = [",".join(["id", "split", *columns])]
    for i in range(n):
        split = "train" if i < n // 2 else "valid" if i < 3 * n // 4 else "test"
        lines.append(",".join([f"u{i}", split, *(str(values[i]) for values in columns.values())]))
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    for name, values in arrays.items():
        np.save(root / f"{name}.npy", values)
    return root


def test_labels_beside_a_folders_features_are_no_modality(tmp_path):
    scores = RNG.normal(size=40)
    root = folder(tmp_path, {"sentiment": scores}, {"labels": scores[:, None], "audio": RNG.normal(size=(40, 3))})
    table = open_table(root)
    assert list(table.modalities) == ["audio"]
    assert any(item.startswith("labels.npy") for item in table.meta["roles"]["labels"])


def test_inspect_prints_the_roles_also_after_a_conversion(tmp_path, capsys):
    root = folder(tmp_path / "d", {"sentiment": RNG.normal(size=40)}, {"audio": RNG.normal(size=(40, 3))})
    assert main(["convert", str(root), str(tmp_path / "t")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "t")]) == 0
    printed = capsys.readouterr().out
    assert "audio.npy (size 3)" in printed
    assert "column sentiment" in printed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": [((np.zeros((3, 2)), np.zeros((3, 4))), np.zeros((1, 1)), "a")]}, ["'train'", "list of 1", "tuple"]),
        (({"Ses01": ["a"]}, {"Ses01": [0]}), ["tuple of 2", "'Ses01'"]),
        ({"audio": np.zeros((4, 33)), "id": "clip"}, ["'audio'", "shape (4, 33)"]),
        ([], ["list of 0"]),
        (3, ["a int"]),
    ],
    ids=["pairs by split", "dictionaries by dialogue", "one clip", "nothing", "a number"],
)
def test_a_pickle_that_no_reader_takes_is_described(content, words, tmp_path):
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(PaSEError) as refused:
        open_table(path)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("values", "noted"),
    [(1.7e9 + np.arange(40.0), True), (1.7e9 * np.ones(40), False), (np.arange(40) + 2**40, True), (SPREAD, False)],
    ids=["time stamps", "a round number", "whole numbers", "ordinary"],
)
def test_values_that_single_precision_rounds_are_said(values, noted, tmp_path):
    root = folder(tmp_path, {"sentiment": RNG.normal(size=40)}, {"audio": values[:, None]})
    notes = open_table(root).meta.get("notes", [])
    assert any("single precision" in note for note in notes) is noted
