"""Training splits that lack modalities."""

import numpy as np
import pandas as pd
import yaml

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.paper import missing
from pase_msa.paper.protocol import Protocol
from tests.paper.conftest import BASE, Made, two_modalities


def present(table, split):
    return {name: table.sequences(name).present[table.rows(split)] for name in table.modalities}


def test_only_the_training_split_lacks_modalities_and_always_the_same(tmp_path):
    whole = synthetic_table(two_modalities(train=300), path=tmp_path / "data")
    protocol = Protocol("toy", str(tmp_path / "data"), whole, [1])
    first, again = (missing.datasets(protocol, tmp_path / name) for name in ("a", "b"))
    assert first[0] == str(tmp_path / "data")
    for path, other in zip(first[1:], again[1:], strict=True):
        assert FeatureTable.load(path).fingerprint() == FeatureTable.load(other).fingerprint()
    lost = {}
    for path in first[1:]:
        table = FeatureTable.load(path)
        for split in ("valid", "test"):
            for name, flags in present(table, split).items():
                np.testing.assert_array_equal(flags, present(whole, split)[name])
        flags = present(table, "train")
        assert np.any(list(flags.values()), axis=0).all()
        lost[path.rsplit("/")[-1]] = {name: round(1 - float(own.mean()), 1) for name, own in flags.items()}
    assert lost == {
        "lost-all-0.4": {"text": 0.3, "audio": 0.3},  # .4 - .4^2 / 2
        "lost-most-text": {"text": 0.7, "audio": 0.1},
        "lost-most-audio": {"text": 0.1, "audio": 0.7},
    }


def test_a_run_is_measured_with_the_losses_that_it_was_trained_with(tmp_path):
    made = Made(tmp_path)
    synthetic_table(two_modalities(), path=made.data)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    assert made.reproduce("missing", seeds=1, more=("--methods", "concat")) == 0
    found = pd.read_csv(made.out / "missing.csv")
    ways = ["all there", "all lost at 0.4", "T lost most", "A lost most"]
    assert list(dict.fromkeys(found["trained_on"])) == list(dict.fromkeys(found["measured_with"])) == ways
    drawn = pd.read_csv(made.out / "missing-rates.csv")
    assert (drawn["trained_on"] == drawn["measured_with"]).all()
    assert set(drawn["often"].fillna("")) == {"", "text", "audio"}
    balance = pd.read_csv(made.out / "missing-balance.csv")
    assert set(balance["trained_on"]) == set(ways)
