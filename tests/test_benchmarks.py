"""The benchmarks run, on little data."""

import json

from benchmarks import convert, gpu
from pase_msa.data import open_table


def test_the_gpu_benchmark_runs_on_any_device(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "SIZES", {"text": 6, "audio": 4, "vision": 3})
    words = ["--utterances", "40", "--epochs", "2", "--batch-sizes", "16", "--precisions", "32-true"]
    gpu.main([*words, "--compile", "no", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["model"] for row in rows] == ["concat", "pase"]
    assert rows[1]["overhead"] > 0


def test_the_pickle_of_the_conversion_benchmark_is_read(tmp_path):
    convert.write_pickle(tmp_path / "features.pkl", 20, 4)
    table = open_table(tmp_path / "features.pkl", out=tmp_path / "table")
    assert table.modalities == convert.SIZES
    assert len(table) == 14 + 2 + 4
