"""The model to try, where neither transcripts nor a voice are at hand."""

import random
import sys

from experiments import tryout
from pase_msa.errors import PaSEError
from pase_msa.serve.clips import ClipPredictor


def test_a_brighter_voice_goes_with_a_better_label():
    def pitch(label):
        return sum(tryout.prosody(label, random.Random(seed))["pitch"] for seed in range(50)) / 50

    assert pitch(-3) < pitch(0) - 5 < pitch(3) - 10


def test_no_sentence_is_in_two_splits(tmp_path):
    rows = tryout.transcripts(tmp_path)
    assert len({row["text"] for row in rows}) == len(rows) == sum(tryout.MADE_UP.values())


def test_the_model_predicts_and_its_card_names_synthetic_data(tmp_path, monkeypatch):
    def silent(*given):
        raise PaSEError("There is no voice.")

    monkeypatch.setattr(tryout, "say", silent)
    monkeypatch.setattr(tryout, "MADE_UP", {"train": 120, "valid": 40, "test": 40})
    out = tmp_path / "tryout"
    monkeypatch.setattr(sys, "argv", ["tryout", "--out", str(out), "--mosi", str(tmp_path / "none"), "--jobs", "1"])
    tryout.main()
    card = (out / "model" / "README.md").read_text()
    assert "made-up sentences (synthetic)" in card
    assert "absent, because no speech synthesis" in card
    predictor = ClipPredictor(out)
    good, bad = (predictor.predict(None, f"the story was {word}").overall.score for word in ("wonderful", "terrible"))
    assert good > bad
