"""Small whole inputs of every kind that the library reads: what the campaign damages."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.training.config import RunConfig, TrainingConfig
from pase_msa.training.run import train

SIZES = {"train": 12, "valid": 6, "test": 6}


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def mmsa_content(unaligned: bool = False) -> dict[str, Any]:
    """What an MMSA pickle holds; the unaligned one states lengths."""
    rng, content = _rng(), {}
    for split, n in SIZES.items():
        part: dict[str, Any] = {
            "id": [f"{split}{i // 2}$_${i}" for i in range(n)],
            "raw_text": [f"words {i}" for i in range(n)],
            "annotations": ["Positive", "Neutral"] * (n // 2),
            "text": rng.normal(size=(n, 5, 4)).astype("f4"),
            "audio": rng.normal(size=(n, 5, 3)).astype("f4"),
            "text_bert": rng.integers(1, 9, (n, 3, 5)).astype("f4"),
            "regression_labels": rng.uniform(-3, 3, n).astype("f4"),
        }
        if unaligned:
            part |= {"audio_lengths": [3] * n, "regression_labels_A": rng.uniform(-1, 1, n).astype("f4")}
        content[split] = part
    return content


def mult_content() -> dict[str, Any]:
    """What a MulT pickle holds."""
    rng, content = _rng(), {}
    for split, n in SIZES.items():
        content[split] = {
            "id": np.array([[f"{split}{i}".encode(), b"0.1", b"2.5"] for i in range(n)]),
            "text": rng.normal(size=(n, 4, 3)),
            "audio": rng.normal(size=(n, 4, 2)),
            "labels": rng.uniform(-3, 3, (n, 1, 1)),
        }
    return content


def gcnet_content() -> list[Any]:
    """What the pickle of the GCNet layout holds."""
    ids = {f"v{k}": [f"v{k}_{j}" for j in range(3)] for k in range(5)}
    labels = {video: [0, 1, 2] for video in ids}
    speakers, sentences = {video: ["M", "F", "M"] for video in ids}, {video: ["hi", "you", "there"] for video in ids}
    return [ids, labels, speakers, sentences, {"v0", "v1", "v2"}, {"v3"}, {"v4"}]


def mmgcn_content() -> tuple[Any, ...]:
    """What a pickle of conversations holds."""
    rng = _rng()
    ids, labels, speakers, sentences = gcnet_content()[:4]
    videos = list(ids)
    features = [{v: [rng.normal(size=d).astype("f4") for _ in ids[v]] for v in videos} for d in (4, 3, 2)]
    return (ids, speakers, labels, *features, sentences, set(videos[:4]), set(videos[4:]))


def mag_bert_content() -> dict[str, Any]:
    """What a pickle of tuples holds."""
    rng, content = _rng(), {}
    for split, n in SIZES.items():
        content[split] = [
            (
                (["some", "words"], rng.normal(size=(2, 3)).astype("f4"), rng.normal(size=(2, 4)).astype("f4")),
                rng.uniform(-3, 3, (1, 1)),
                f"{split}{i // 2}[{i}]",
            )
            for i in range(n)
        ]
    return content


def write_mmsa(folder: Path) -> Path:
    """An aligned MMSA pickle."""
    return _pickle(folder / "aligned.pkl", mmsa_content())


def write_mmsa_unaligned(folder: Path) -> Path:
    """An unaligned MMSA pickle."""
    return _pickle(folder / "unaligned.pkl", mmsa_content(unaligned=True))


def write_mult(folder: Path) -> Path:
    """A MulT pickle."""
    return _pickle(folder / "mosi_data.pkl", mult_content())


def write_gcnet(folder: Path) -> Path:
    """The GCNet layout."""
    home = folder / "gcnet"
    features = home / "features" / "wav2vec-UTT"
    features.mkdir(parents=True)
    content, rng = gcnet_content(), _rng()
    _pickle(home / "labels.pkl", content)
    for names in content[0].values():
        for name in names:
            np.save(features / f"{name}.npy", rng.normal(size=4))
    return home


def write_csd(folder: Path) -> Path:
    """Computational sequences of three videos."""
    home, rng = folder / "csd", _rng()
    home.mkdir()
    steps = np.stack([np.arange(6.0), np.arange(1.0, 7.0)], 1)
    words = np.array([[w] for w in (b"so", b"very", b"sp", b"good", b"a", b"film")])
    contents: dict[str, Callable[[], tuple[Any, Any]]] = {
        "words": lambda: (steps, words),
        "COVAREP": lambda: (steps, rng.normal(size=(6, 3))),
        "Opinion_Labels": lambda: (np.array([[0, 3.0], [3.0, 6.0]]), rng.uniform(-3, 3, (2, 1))),
    }
    for name, make in contents.items():
        with h5py.File(home / f"{name}.csd", "w") as file:
            data = file.create_group(name).create_group("data")
            for video in ("a", "b", "c"):
                entry = data.create_group(video)
                entry["intervals"], entry["features"] = make()
    (home / "splits.csv").write_text("video,split\na,train\nb,valid\nc,test\n")
    return home


def write_mfn(folder: Path) -> Path:
    """HDF5 files as the Memory Fusion Network has them."""
    home, rng = folder / "mfn", _rng()
    home.mkdir()
    for split, n in SIZES.items():
        for name, values in (("y", rng.normal(size=n)), ("audio", rng.normal(size=(n, 4, 3)))):
            with h5py.File(home / f"{name}_{split}.h5", "w") as file:
                file["d1"] = values
    return home


def write_folder(folder: Path) -> Path:
    """The folder format, one modality with lengths."""
    home, rng, n = folder / "own", _rng(), sum(SIZES.values())
    home.mkdir()
    np.save(home / "audio.npy", rng.normal(size=(n, 3)))
    lengths = rng.integers(0, 3, n)
    np.save(home / "vision_lengths.npy", lengths)
    np.save(home / "vision.npy", rng.normal(size=(int(lengths.sum()), 2)).astype("f4"))
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    with (home / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "video", "split", "sentiment", "text"])
        rows.writerows([f"u{i}", f"v{i}", split, f"{i % 5 - 2}", f"words, {i}"] for i, split in enumerate(splits))
    return home


def _utterances() -> list[Utterance]:
    rng = _rng()
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    return [
        Utterance(
            f"u{i}",
            f"v{i // 2}",
            split,
            {"sentiment": float(i % 5 - 2)},
            {"audio": rng.normal(size=(1 + i % 3, 3)), "vision": None if i % 4 == 0 else rng.normal(size=2)},
            f"words {i}",
        )
        for i, split in enumerate(splits)
    ]


def write_mmgcn(folder: Path) -> Path:
    """A pickle of conversations."""
    return _pickle(folder / "iemocap.pkl", mmgcn_content())


def write_mag_bert(folder: Path) -> Path:
    """A pickle of tuples."""
    return _pickle(folder / "mosi.pkl", mag_bert_content())


def write_table(folder: Path) -> Path:
    """A converted table."""
    rows = _utterances()
    FeatureTable.build(rows, Schema.of(rows), path=folder / "table", meta={"source": "fuzz"})
    return folder / "table"


def write_run(folder: Path) -> Path:
    """A complete run with its evaluation, beside the data that it was trained on."""
    config = RunConfig(
        data=str(write_folder(folder)),
        out=str(folder / "run"),
        modalities=["audio", "vision"],
        model={"name": "pase", "width": 4},
        encoders={"default": {"hidden": 4}},
        training=TrainingConfig(epochs=1, batch_size=8, accelerator="cpu", threads=1),
    )
    run = train(config, progress=False)
    evaluate(run.path)
    return folder / "run"


def write_model(folder: Path) -> Path:
    """The saved model of a run."""
    return write_run(folder) / "model"


def _pickle(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "mmsa": write_mmsa,
    "mmsa unaligned": write_mmsa_unaligned,
    "mult": write_mult,
    "gcnet": write_gcnet,
    "mmgcn": write_mmgcn,
    "mag bert": write_mag_bert,
    "csd": write_csd,
    "mfn": write_mfn,
    "folder": write_folder,
    "table": write_table,
    "model": write_model,
    "run": write_run,
}
#: kinds whose content is a pickle that can be damaged as a structure
STRUCTURES: dict[str, tuple[str, Callable[[], Any]]] = {
    "mmsa": ("aligned.pkl", mmsa_content),
    "mmsa unaligned": ("unaligned.pkl", lambda: mmsa_content(unaligned=True)),
    "mult": ("mosi_data.pkl", mult_content),
    "gcnet": ("labels.pkl", gcnet_content),
    "mmgcn": ("iemocap.pkl", mmgcn_content),
    "mag bert": ("mosi.pkl", mag_bert_content),
}


def plain(path: Path) -> Any:
    """The content of a JSON file, or None."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
