"""What every reader of a published format keeps to, on a small example of its own."""

import numpy as np
import pytest

from pase_msa import plugins
from pase_msa.data import open_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from tests.data.examples import EXAMPLES, dump

FORMATS = plugins.names("data.formats")

each_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture
def example(name, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    return EXAMPLES[name](root)


def test_every_format_has_an_example():
    assert set(EXAMPLES) == set(FORMATS)


@each_format
def test_the_example_is_recognised_by_its_own_reader_alone(name, example):
    assert [other for other in FORMATS if plugins.load("data.formats", other).sniff(example.path)] == [name]


@each_format
def test_the_table_holds_what_the_files_hold(name, example):
    table = open_table(example.path)
    assert table.meta["format"] == name
    assert table.meta["source"] == example.path.name
    assert table.ids == example.ids
    assert table.videos == example.videos
    assert table.splits.tolist() == example.splits
    assert table.labels(example.label) == example.labels
    assert table.texts == example.texts
    assert set(table.modalities) == set(example.lengths)
    for modality, lengths in example.lengths.items():
        column = table.sequences(modality)
        assert column.lengths.tolist() == lengths
        assert column.present.tolist() == [length > 0 for length in lengths]
        steps = [column[row] for row in np.flatnonzero(lengths)]
        assert {step.shape[1] for step in steps} == {table.modalities[modality]}
        assert all(step.any() for step in steps)
    table.check_splits()


@each_format
def test_the_format_may_be_named(name, example):
    assert open_table(example.path, format=name).fingerprint() == open_table(example.path).fingerprint()


@each_format
def test_streamed_to_a_folder_it_is_the_same_table(name, example, tmp_path):
    streamed = open_table(example.path, out=tmp_path / "out")
    in_memory = open_table(example.path)
    assert streamed.fingerprint() == in_memory.fingerprint()
    again = FeatureTable.load(tmp_path / "out")
    assert again.fingerprint() == in_memory.fingerprint()
    assert again.meta == in_memory.meta


@each_format
@pytest.mark.parametrize("damage", ["cut short", "other content"])
def test_a_damaged_file_is_refused_in_a_sentence(name, damage, example, tmp_path):
    whole = example.file.read_bytes()
    example.file.write_bytes(whole[: len(whole) // 2] if damage == "cut short" else b"<html>not found</html>")
    with pytest.raises(PaSEError) as refusal:
        open_table(example.path, out=tmp_path / "out")
    assert str(tmp_path) in str(refusal.value)
    assert not (tmp_path / "out" / "table.arrow").exists()


@each_format
def test_files_of_no_format_are_neither_recognised_nor_read(name, tmp_path):
    reader = plugins.load("data.formats", name)
    (tmp_path / "notes.txt").write_text("nothing")
    plain = dump(tmp_path / "list.pkl", [1, 2, 3])
    for path in (tmp_path, tmp_path / "notes.txt", plain):
        assert not reader.sniff(path)
        with pytest.raises(PaSEError):
            reader.read(path)
