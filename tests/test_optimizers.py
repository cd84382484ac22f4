"""What optimisers leave of a balancing method: the factors that are measured, and the figure."""

import csv

import pytest

from experiments import optimizers
from experiments.optimizers_figure import draw


def ratios(method, optimizer):
    """(asked, measured) of the modality that is ahead, over two epochs with the method."""
    rows = optimizers.measure(method, optimizer, 1, epochs=2)
    assert [row["modality"] for row in rows] == ["a", "b"]
    return rows[0]["asked"], rows[0]["measured"]


@pytest.mark.parametrize(
    ("method", "optimizer", "measured"),
    [
        ("multi_head, gradient x 3", "sgd", 3.0),
        ("multi_head, gradient x 3", "adam", 1.0),
        ("multi_head, rate x 3", "adam", 3.0),
    ],
)
def test_a_factor_on_gradients_is_undone_by_adam_and_one_on_rates_is_not(method, optimizer, measured):
    assert ratios(method, optimizer) == pytest.approx((3.0, measured), rel=0.02)


def test_the_same_values_give_the_same_figure(tmp_path):
    points = {("agm", optimizer, steps): (0.5, 0.9) for optimizer in optimizers.RATES for steps in (0, 160)}
    for name in ("one", "two"):
        draw(points, {"agm": "gradient"}, tmp_path / "new" / f"{name}.svg")
    one, two = ((tmp_path / "new" / f"{name}.svg").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"<svg" in one


def test_the_table_is_of_geometric_means_over_seeds(tmp_path):
    row = {"method": "agm", "acts_on": "gradient", "optimizer": "sgd", "warm_up": "0", "modality": "a"}
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, optimizers.FIELDS)
        writer.writeheader()
        writer.writerows([{**row, "seed": seed, "asked": 4**seed, "measured": 0.5} for seed in (0, 1)])
    with file.open(newline="") as stream:
        text = optimizers.table(list(csv.DictReader(stream)))
    assert "| agm | gradient | 2.00 -> 0.50 |" in text
