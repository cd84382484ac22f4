"""The options of the synthetic benchmark; `pase_msa.data.synthetic.generate` has the equations that use them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.task import Kind, Task

LABEL_RANGE = (-3.0, 3.0)


@dataclass(frozen=True)
class ModalitySpec:
    """How a modality carries information on the class.

    Args:
        dim: size of a frame; at least the size L of the class codes; the other dimensions carry no information.
        strength: scale of the class code in the evidence; 0 is no information.
        noise: standard deviation of the evidence's noise; strength / noise is the signal-to-noise ratio.
        redundancy: share, in [0, 1], of the noise variance that is common to all modalities with redundancy;
            where they are unequal, of the variance of the one with the highest ratio.
        missing: probability, in [0, 1), that an utterance lacks the modality; where that would leave an
            utterance with none, its modalities are drawn again.
        length: least and greatest number of frames, drawn uniformly per utterance.
        dominance: more than -1. The directions of the evidence are stretched by 1 + dominance, the others are not.
            The map is invertible, so the information stays the same. What changes is how soon gradient descent
            learns it: a dominant modality first, one below 0 slowly.
        deception: scale of a class code that agrees with the label in the training split and is random in any other,
            as are the features of a network that was trained on the training labels. Needs redundancy 0.
        identity: standard deviation, between videos, of an offset that all frames of a video share in the directions
            without information. It tells training videos apart, and carries no information on a new one.
    """

    dim: int = 16
    strength: float = 1.0
    noise: float = 1.0
    redundancy: float = 0.0
    missing: float = 0.0
    length: tuple[int, int] = (4, 12)
    dominance: float = 0.0
    deception: float = 0.0
    identity: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", tuple(self.length))
        _require(self.dim >= 1, "dim", "1 or more", self.dim)
        _require(0 <= self.strength < math.inf, "strength", "0 or more", self.strength)
        _require(0 <= self.noise < math.inf, "noise", "0 or more", self.noise)
        _require(0 <= self.redundancy <= 1, "redundancy", "between 0 and 1", self.redundancy)
        _require(0 <= self.missing < 1, "missing", "0 or more and less than 1", self.missing)
        _require(-1 < self.dominance < math.inf, "dominance", "more than -1", self.dominance)
        _require(0 <= self.deception < math.inf, "deception", "0 or more", self.deception)
        _require(0 <= self.identity < math.inf, "identity", "0 or more", self.identity)
        alone = self.deception == 0 or self.redundancy == 0
        _require(alone, "redundancy (with deception)", "0", self.redundancy)
        ordered = len(self.length) == 2 and 1 <= self.length[0] <= self.length[1]
        _require(ordered, "length", "two numbers of frames, least first and 1 or more", self.length)


def _default_modalities() -> dict[str, ModalitySpec]:
    return {
        "text": ModalitySpec(dim=24, noise=0.5, redundancy=0.1, dominance=2.0),
        "audio": ModalitySpec(dim=16, noise=0.65, redundancy=0.1, length=(8, 24)),
        "vision": ModalitySpec(dim=16, noise=0.9, missing=0.2, length=(6, 18)),
    }


@dataclass(frozen=True)
class SyntheticSpec:
    """A synthetic benchmark; the same spec gives the same table, number for number.

    Args:
        modalities: name -> its options.
        kind: "regression" (K ordered classes evenly over [-3, 3]) or "classification".
        classes: K, or (classification) the K names in order.
        jitter: regression: labels are spread uniformly around their class value, over this share, in [0, 1),
            of the gap between two values, and clipped to the range; 0 leaves the class values.
        train: utterances of the training split.
        valid: those of the validation split.
        test: those of the test split.
        utterances_per_video: consecutive utterances of a split that make one video.
        seed: of the maps and of the draws. Every split and modality has its own stream, so that a change of one
            split's size, or of one modality, leaves the others as they were.
        clumping: probability, in [0, 1), that an utterance has its video's home class instead of one of its
            own. Every class stays as frequent as any other.
        synergy: two modalities that are informative together, and neither alone. The first shows the class or, as
            often, the mirrored class (the last for the first, the opposite value in regression); the second
            shows which of the two it is, and carries no information on the class. Both need redundancy and deception 0.
    """

    modalities: Mapping[str, ModalitySpec] = field(default_factory=_default_modalities)
    kind: Kind = "regression"
    classes: int | tuple[str, ...] = 7
    jitter: float = 0.0
    train: int = 600
    valid: int = 200
    test: int = 400
    utterances_per_video: int = 10
    seed: int = 0
    clumping: float = 0.0
    synergy: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.classes, int):
            object.__setattr__(self, "classes", tuple(self.classes))
            _require(self.kind != "regression", "classes (regression)", "a number", self.classes)
        task = self.task
        _require(0 <= self.jitter < 1, "jitter", "0 or more and less than 1", self.jitter)
        sizes = [self.train, self.valid, self.test]
        _require(min(sizes) >= 0 and sum(sizes) > 0, "train, valid and test", "0 or more, not all 0", sizes)
        per_video = self.utterances_per_video
        _require(per_video >= 1, "utterances_per_video", "1 or more", per_video)
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        _require(0 <= self.clumping < 1, "clumping", "0 or more and less than 1", self.clumping)
        size = task.num_classes - 1 if self.kind == "classification" else 2
        for name, modality in self.modalities.items():
            wanted = f"{size} or more for these classes"
            _require(modality.dim >= size, f"dim of {name}", wanted, modality.dim)
            room = modality.identity == 0 or modality.dim > size
            _require(room, f"dim of {name} (with identity)", f"more than {size} for these classes", modality.dim)
        if len(self.modalities) == 1 and next(iter(self.modalities.values())).missing > 0:
            raise PaSEError("The only modality of a benchmark cannot be missing; leave out `missing`.")
        if self.synergy is not None:
            self._check_synergy(tuple(self.synergy))

    def _check_synergy(self, pair: tuple[str, ...]) -> None:
        two = len(pair) == 2 and pair[0] != pair[1] and set(pair) <= set(self.modalities)
        _require(two, "synergy", f"two different ones of {', '.join(self.modalities)}", self.synergy)
        object.__setattr__(self, "synergy", pair)
        for name in pair:
            modality = self.modalities[name]
            _require(modality.redundancy == 0, f"redundancy of {name} (with synergy)", "0", modality.redundancy)
            _require(modality.deception == 0, f"deception of {name} (with synergy)", "0", modality.deception)

    @property
    def task(self) -> Task:
        """The task of the benchmark: modalities, and classes or a range of scores."""
        names, classes = tuple(self.modalities), self.classes
        if self.kind == "regression" and isinstance(classes, int):
            return Task.regression(names, *LABEL_RANGE, num_classes=classes, label="sentiment")
        if isinstance(classes, int):
            # zero-padded, so that names sort in the order of the classes
            width = len(str(classes - 1))
            classes = tuple(f"emotion{k:0{width}d}" for k in range(classes))
        return Task(self.kind, names, classes, None, "emotion")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SyntheticSpec:
        """Inverse of `to_dict`, from JSON."""
        modalities = {name: ModalitySpec(**modality) for name, modality in content["modalities"].items()}
        return cls(**{**content, "modalities": modalities})


def _require(holds: bool, what: str, wanted: str, value: Any) -> None:
    if not holds:
        raise PaSEError(f"{what} of a synthetic benchmark must be {wanted}, found {value}.")
