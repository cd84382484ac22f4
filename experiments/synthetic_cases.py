"""The synthetic cases of the study of harm: kinds of a further modality, and the best subset of modalities for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec

SIZES = {"train": 1000, "valid": 300, "test": 1500, "utterances_per_video": 10}
SHORT = (2, 4)  # frames per utterance; few, because the study trains hundreds of networks
BASE = {"a": ModalitySpec(dim=24, noise=1.0, length=SHORT), "b": ModalitySpec(dim=16, noise=1.5, length=SHORT)}


@dataclass(frozen=True)
class Case:
    """A kind of synthetic data.

    Attributes:
        modalities: all that the table holds.
        best: the subset that holds all information about the label on new videos.
        synergy: see `SyntheticSpec`.
        clumping: see `SyntheticSpec`.
    """

    modalities: dict[str, ModalitySpec]
    best: tuple[str, ...]
    synergy: tuple[str, str] | None = None
    clumping: float = 0.0

    def write(self, path: Path, draw: int) -> Path:
        """The table of a draw, in a folder; an existing one is left as it is."""
        if not (path / "table.json").is_file():
            spec = SyntheticSpec(self.modalities, seed=draw, synergy=self.synergy, clumping=self.clumping, **SIZES)
            synthetic_table(spec, path=path)
        return path


def _deceptive(strength: float) -> Case:
    x = ModalitySpec(dim=24, strength=0.0, noise=0.5, deception=strength, length=SHORT)
    return Case(BASE | {"x": x}, ("a", "b"))


CASES = {
    "weak": Case(BASE | {"x": ModalitySpec(dim=24, strength=0.4, noise=1.0, length=SHORT)}, ("a", "b", "x")),
    "slow": Case(BASE | {"x": ModalitySpec(dim=48, noise=0.7, dominance=-0.85, length=SHORT)}, ("a", "b", "x")),
    "deceptive 0.1": _deceptive(0.1),
    "deceptive 0.3": _deceptive(0.3),
    "deceptive 0.5": _deceptive(0.5),
    "deceptive 1.0": _deceptive(1.0),
    "noise": Case(BASE | {"x": ModalitySpec(dim=64, strength=0.0, length=SHORT)}, ("a", "b")),
    "identity": Case(
        BASE | {"x": ModalitySpec(dim=32, strength=0.0, identity=2.0, length=SHORT)}, ("a", "b"), clumping=0.5
    ),
    "synergy": Case(
        {
            "a": BASE["b"],
            "x": ModalitySpec(dim=8, noise=0.3, length=SHORT),
            "y": ModalitySpec(dim=8, noise=0.3, length=SHORT),
        },
        ("a", "x", "y"),
        synergy=("x", "y"),
    ),
}
