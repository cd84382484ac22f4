"""Every figure: drawn with words on its axes, the same bytes each time, and written whole."""

import pandas as pd
import pytest

from pase_msa.errors import PaSEError
from pase_msa.paper import confidence, figure1, figure3, figure4, figure5, ground_truth, noise, rates, table4
from pase_msa.paper.saving import save, save_table


def _features(runs, _):
    chosen = [runs["pase"], runs["concat"]]
    points = figure3.measure(chosen)
    return points, lambda: figure3.draw(points, figure3.separation(chosen, points))


def _score(runs, _):
    points = figure3.measure([runs["pase"]])
    return points, lambda: figure3.draw(points, by="score")


def _gains(runs, _):
    frame = table4.measure([runs["pase"], runs["concat"]], imputation=("on",))
    found = figure1.measure(frame)
    return found, lambda: figure1.draw(found)


def _phases(_, folders):
    frame = figure5.measure({"without SGM": folders["plain"], "with SGM": folders["pase"]})
    return frame, lambda: figure5.draw(frame)


def _simple(module, *names, **options):
    def made(runs, _):
        frame = module.measure([runs[name] for name in names], **options)
        return frame, lambda: module.draw(frame)

    return made


def _confidence(part):
    def made(runs, _):
        frame = getattr(confidence, f"measure_{part}")([runs["pase"], runs["concat"]])
        return frame, lambda: getattr(confidence, f"draw_{part}")(frame)

    return made


FIGURES = {
    "subsets": _simple(table4, "pase", "concat"),
    "rates": _simple(rates, "pase", "concat", rates=(0.0, 0.5), draws=2),
    "gains": _gains,
    "features": _features,
    "score": _score,
    "gates": _simple(figure4, "pase", "plain"),
    "phases": _phases,
    "calibration": _confidence("calibration"),
    "selection": _confidence("selection"),
    "noise": _simple(noise, "pase", levels=(0.0, 1.0), draws=2),
    "ground_truth": _simple(ground_truth, "pase", "concat"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_words_and_repeats_to_the_byte(name, runs, folders, tmp_path):
    frame, draw = FIGURES[name](runs, folders)
    figure = draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert any(axes.get_xlabel() for axes in shown)
    assert shown[0].get_ylabel()
    first = [path.read_bytes() for path in save(figure, frame, tmp_path / "one" / "figure.1")]
    again = [path.read_bytes() for path in save(draw(), frame, tmp_path / "two" / "figure.1")]
    assert first == again
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "figure.1.csv",
        "figure.1.png",
        "figure.1.svg",
    ]
    assert len(pd.read_csv(tmp_path / "one" / "figure.1.csv")) == len(frame)


def test_nothing_is_half_written(runs, tmp_path):
    frame = confidence.measure_selection([runs["concat"]])
    before = [path.read_bytes() for path in save(confidence.draw_selection(frame), frame, tmp_path / "figure")]

    class Full(pd.DataFrame):
        def to_csv(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

    with pytest.raises(PaSEError, match="cannot be written"):
        save(confidence.draw_selection(frame.iloc[:5]), Full(frame), tmp_path / "figure")
    assert [(tmp_path / f"figure.{kind}").read_bytes() for kind in ("png", "svg", "csv")] == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_table_goes_alone(tmp_path):
    path = save_table(pd.DataFrame({"a": [1.5]}), tmp_path / "deep" / "table")
    assert path.read_text() == "a\n1.5\n"


def test_classes_have_no_score_to_be_coloured_by(runs):
    with pytest.raises(PaSEError, match="in a regression only"):
        figure3.draw(figure3.measure([runs["classes"]]), by="score")
