"""A small example of every format: the files are written, and what they hold is stated beside them."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

RNG = np.random.default_rng(0)


def filled(*shape):
    """Values of which none is 0."""
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def mmsa_part(ids, aligned):
    """Text of 4 of 6 steps; audio of 3 of 8 steps (unaligned); vision of 2 of 5, absent in the last row."""
    n = len(ids)
    part = {
        "id": ids,
        "raw_text": [f"text of {name}" for name in ids],
        "annotations": ["Positive", "Negative", "Neutral"][:n],
        "regression_labels": np.array([1.5, -2.0, 0.0][:n]),
        "classification_labels": np.array([2, 0, 1][:n]),
        "text": filled(n, 6, 7),
        "text_bert": np.zeros((n, 3, 6), np.float32),
        "audio": np.zeros((n, 6 if aligned else 8, 2), np.float32),
        "vision": np.zeros((n, 6 if aligned else 5, 3)),
    }
    part["text_bert"][:, 0] = 101
    part["text_bert"][:, 1, :4] = 1
    steps = 4 if aligned else 3
    part["audio"][:, :steps] = filled(n, steps, 2)
    part["vision"][:-1, : steps - 1] = filled(n - 1, steps - 1, 3)
    if not aligned:
        part["audio_lengths"] = [3] * n
        part["vision_lengths"] = [2] * n
    return part


def mmsa(aligned):
    parts = {"train": mmsa_part(["a_b$_$1", "a_b$_$2", "c$_$1"], aligned)}
    parts["valid"] = mmsa_part(["d$_$1", "d$_$2"], aligned)
    parts["test"] = mmsa_part(["e$_$1", "e$_$2"], aligned)
    parts["train"]["audio"][0, 1, 0] = -np.inf
    return parts


def mult_part(n, front=2, back=1):
    part = {"text": filled(n, 6, 4), "audio": filled(n, 6, 2), "vision": filled(n, 6, 3).astype(np.float64)}
    for value in part.values():
        value[:, :front] = 0
        value[:, 6 - back :] = 0
    return part


def gcnet(root, labels, valid=True, nested=True):
    """Video v1 of three utterances, v2 and v3 of one; the face of u2 is missing, that of u3 a folder."""
    ids = {"v1": ["u1", "u2", "u3"], "v2": ["w1"], "v3": ["x1"]}
    speakers = {"v1": ["F", "M", "M"], "v2": ["F"], "v3": ["F"]}
    sentences = {video: [f"said {name}" for name in names] for video, names in ids.items()}
    sets = [{"v1"}, {"v2"}, {"v3"}] if valid else [{"v1", "v2"}, {"v3"}]
    dump(root / "labels.pkl", [ids, labels, speakers, sentences, *sets])
    base = root / "features" if nested else root
    for name in ("wav2vec-large-c-UTT", "manet_UTT"):
        (base / name).mkdir(parents=True)
    for names in ids.values():
        for name in names:
            np.save(base / "wav2vec-large-c-UTT" / f"{name}.npy", filled(1, 5))
            if name in ("u1", "w1"):
                np.save(base / "manet_UTT" / f"{name}.npy", filled(4, 3))
    np.save(base / "manet_UTT" / "x1.npy", np.zeros(3))
    (base / "manet_UTT" / "u3").mkdir()
    for face, value in (("F_0", 1), ("M_0", 2), ("M_1", 3)):
        np.save(base / "manet_UTT" / "u3" / f"{face}.npy", np.full(3, value, np.float32))
    return root


def write_h5(path, values, name="d1"):
    with h5py.File(path, "w") as file:
        file[name] = values


def sequence(file, name, entries, nested=True, dimensions=None):
    """One computational sequence: entry -> (intervals, features)."""
    root = file.create_group(name)
    data = root.create_group("data") if nested else root
    for key, (intervals, features) in entries.items():
        group = data.create_group(key)
        group["intervals"], group["features"] = np.array(intervals, np.float64), features
    if dimensions:
        text = root.create_group("metadata").create_dataset("dimension names", (1,), dtype=h5py.string_dtype())
        text[0] = json.dumps(dimensions)


AUDIO = ([[i / 10, (i + 1) / 10] for i in range(40)], np.arange(40.0)[:, None] * [1, 10])
WORDS = (
    [[0.0, 0.2], [0.2, 0.5], [0.5, 1.0], [1.0, 1.5], [2.0, 3.0]],
    np.array([[b"I"], [b"sp"], [b"like"], [b"it"], [b"really"]]),
)
OPINIONS = ([[0.0, 1.5], [1.5, 3.0], [3.0, 3.0]], np.array([[2.0], [-1.0], [0.0]]))


def csd(folder, words=WORDS, key="v1", labels=OPINIONS, label_key="v1", name="words"):
    folder.mkdir(exist_ok=True)
    for title, file in (
        ("Opinion Segment Labels", "labels"),
        ("COVAREP", "covarep"),
        (name, "words"),
        ("FACET 4.2", "facet"),
    ):
        if words is None and file == "words":
            continue
        with h5py.File(folder / f"{file}.csd", "w") as h5:
            if file == "labels":
                sequence(h5, title, {label_key: labels, "v2": ([[0.0, 1.0]], np.array([[0.5]]))})
            elif file == "covarep":
                sequence(h5, title, {"v1": AUDIO})
            elif file == "words":
                sequence(h5, title, {key: words})
            else:  # points in time, in the second utterance alone
                sequence(h5, title, {"v1": ([[2.2, 2.2], [2.4, 2.4], [3.0, 3.0]], np.array([[1.0], [3.0], [9.0]]))})
    return folder


@dataclass
class Example:
    """A data set in a format, and the table that a reader must make of it.

    Attributes:
        path: file or folder to open.
        file: the one that a damaged copy spoils.
        ids: of the utterances, in order.
        videos: theirs.
        splits: theirs.
        label: a label column.
        labels: its values.
        lengths: steps by modality, 0 where absent.
        texts: transcripts, or None.
    """

    path: Path
    file: Path
    ids: list
    videos: list
    splits: list
    label: str
    labels: list
    lengths: dict = field(default_factory=dict)
    texts: list | None = None


def folder_example(root):
    csv = """id,video,split,score,text
a1,a,train,1.5,hello
a2,a,train,,
b1,b,valid,-2,bye
"""
    (root / "utterances.csv").write_text(csv)
    np.save(root / "audio.npy", filled(3, 2))
    np.save(root / "vision.npy", filled(5, 3))
    np.save(root / "vision_lengths.npy", np.array([2, 0, 3]))
    return Example(
        root,
        root / "vision.npy",
        ["a1", "a2", "b1"],
        ["a", "a", "b"],
        ["train", "train", "valid"],
        "score",
        [1.5, None, -2.0],
        {"audio": [1, 1, 1], "vision": [2, 0, 3]},
        ["hello", None, "bye"],
    )


def mmsa_example(root):
    path = dump(root / "unaligned.pkl", mmsa(False))
    ids = ["a_b$_$1", "a_b$_$2", "c$_$1", "d$_$1", "d$_$2", "e$_$1", "e$_$2"]
    return Example(
        path,
        path,
        ids,
        ["a_b", "a_b", "c", "d", "d", "e", "e"],
        ["train"] * 3 + ["valid"] * 2 + ["test"] * 2,
        "sentiment",
        [1.5, -2.0, 0.0, 1.5, -2.0, 1.5, -2.0],
        {"text": [4] * 7, "audio": [3] * 7, "vision": [2, 2, 0, 2, 0, 2, 0]},
        [f"text of {name}" for name in ids],
    )


def mult_example(root):
    content = {}
    for split, video in (("train", b"v1"), ("valid", b"v2"), ("test", b"v3[0]")):
        content[split] = {**mult_part(2), "labels": np.array([[[0.5]], [[-3.0]]], np.float32)}
        content[split]["id"] = np.array([[video, b"0.0", b"1.5"], [video, b"1.5", b"2.0"]])
    content["test"]["vision"][1] = 0
    path = dump(root / "mosi_data.pkl", content, 2)
    videos = ["v1", "v1", "v2", "v2", "v3[0]", "v3[0]"]
    return Example(
        path,
        path,
        [f"{video}_{times}" for video, times in zip(videos, ["0.0_1.5", "1.5_2.0"] * 3, strict=True)],
        [video.split("[")[0] for video in videos],
        ["train"] * 2 + ["valid"] * 2 + ["test"] * 2,
        "sentiment",
        [0.5, -3.0] * 3,
        {"text": [3] * 6, "audio": [3] * 6, "vision": [3, 3, 3, 3, 3, 0]},
    )


def gcnet_example(root):
    labels = {"v1": [1.5, -2.0, 0.0], "v2": [3.0], "v3": [-1.0]}
    ids = ["u1", "u2", "u3", "w1", "x1"]
    return Example(
        gcnet(root, labels),
        root / "features" / "manet_UTT" / "u1.npy",
        ids,
        ["v1", "v1", "v1", "v2", "v3"],
        ["train"] * 3 + ["valid", "test"],
        "sentiment",
        [1.5, -2.0, 0.0, 3.0, -1.0],
        {"manet_UTT": [4, 0, 2, 4, 0], "wav2vec-large-c-UTT": [1] * 5},
        [f"said {name}" for name in ids],
    )


def mfn_example(root):
    for split in ("train", "valid", "test"):
        audio, video = filled(2, 5, 3), filled(2, 5, 4)
        audio[:, :2] = 0
        video[0] = 0
        write_h5(root / f"audio_{split}.h5", audio)
        write_h5(root / f"video_{split}.h5", video)
        write_h5(root / f"y_{split}.h5", np.array([1.5, 4.0]), "data")
    ids = [f"{split}_{i}" for split in ("train", "valid", "test") for i in range(2)]
    return Example(
        root,
        root / "audio_valid.h5",
        ids,
        ids,
        ["train"] * 2 + ["valid"] * 2 + ["test"] * 2,
        "label",
        [1.5, 4.0] * 3,
        {"audio": [3] * 6, "video": [0, 5] * 3},
    )


def csd_example(root):
    folder = csd(root / "csd")
    (folder / "splits.json").write_text(json.dumps({"train": ["v1"], "dev": ["v2"]}))
    return Example(
        folder,
        folder / "covarep.csd",
        ["v1[0]", "v1[1]", "v2[0]"],
        ["v1", "v1", "v2"],
        ["train", "train", "valid"],
        "sentiment",
        [2.0, -1.0, 0.5],
        {"COVAREP": [3, 1, 0], "FACET_4_2": [0, 1, 0]},
        ["I like it", "really", None],
    )


def mmgcn_example(root, kinds=3, meld=False):
    """Conversation a of two utterances, b of one, c of one with an empty face."""
    ids = {"a": ["a_F0", "a_M0"], "b": ["b_F0"], "c": ["c_M0"]}
    labels = {"a": [0, 3], "b": [-1], "c": [5]}
    speakers = {video: ["F"] * len(names) for video, names in ids.items()}
    features = [{video: [filled(size) for _ in names] for video, names in ids.items()} for size in (4, 3, 5)[:kinds]]
    features[-1]["c"] = [np.zeros(features[-1]["c"][0].shape, np.float32)]
    sentences = {video: [f"said {name}" for name in names] for video, names in ids.items()}
    content = [ids, speakers, labels, *features, sentences, ["a", "b"], {"c"}]
    if meld:
        content.append({"a": [1, 2], "b": [0], "c": [1]})
    path = dump(root / "IEMOCAP_features_raw.pkl", tuple(content), 2)
    names = ("text", "audio", "vision")[:kinds]
    return Example(
        path,
        path,
        ["a_F0", "a_M0", "b_F0", "c_M0"],
        ["a", "a", "b", "c"],
        ["train", "train", "train", "test"],
        "emotion",
        ["happy", "angry", None, "frustrated"],
        {name: [1, 1, 1, 1 if name != names[-1] else 0] for name in names},
        ["said a_F0", "said a_M0", "said b_F0", "said c_M0"],
    )


def mag_bert_example(root, numbers=False, segments=True, emotions=False):
    """Words with a pause among them, of two, one and three steps; the middle one has no sound."""

    def row(words, score, segment, silent=False):
        steps = len(words)
        first = np.arange(1, steps + 1) if numbers else words
        audio = np.zeros((steps, 3)) if silent else filled(steps, 3)
        parts = (first, filled(steps, 4), audio, *([words] if numbers else []))
        label = np.array([[score, 1, 0, 0, 2, 0, 0]] if emotions else [[score]])
        return (parts, label, segment) if segments else (parts, label)

    content = {
        "train": [row(["I", "like"], 1.5, "v_1[0]"), row(["sp"], 0.0, "v_1[1]", silent=True)],
        "dev": [row(["not", "that", "good"], -2.0, "w_11")],
        "test": [row(["fine", "sp"], 1.0, "x")],
    }
    path = dump(root / "mosi.pkl", content)
    own = ["train_0", "train_1", "valid_0", "test_0"]
    return Example(
        path,
        path,
        ["v_1[0]", "v_1[1]", "w_11", "x"] if segments else own,
        ["v_1", "v_1", "w", "x"] if segments else own,
        ["train", "train", "valid", "test"],
        "sentiment",
        [1.5, 0.0, -2.0, 1.0],
        {"vision": [2, 1, 3, 2], "audio": [2, 0, 3, 2]},
        ["I like", None, "not that good", "fine"],
    )


#: a writer per reader, by the reader's name; `tests/contracts/test_formats.py` wants one for each
EXAMPLES = {
    "csd": csd_example,
    "folder": folder_example,
    "gcnet": gcnet_example,
    "mag_bert": mag_bert_example,
    "mfn": mfn_example,
    "mmgcn": mmgcn_example,
    "mmsa": mmsa_example,
    "mult": mult_example,
}
