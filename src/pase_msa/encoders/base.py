"""The encoder contract and the description of a modality's input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn

from pase_msa import plugins
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError


class Encoder(nn.Module):
    """A sequence and its length become one vector.

    A plug-in module offers `Config`, a dataclass of options, and `build(spec, width, config) -> Encoder`, where `width`
    is the size of the vector.
    """

    @abstractmethod
    def forward(self, features: Tensor, lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Encode padded sequences [N, T, d] (or token ids [N, T]); padding must not change the result."""

    def frames(self, features: Tensor, lengths: Int[Tensor, " n"]) -> Float[Tensor, "n t d"]:
        """The steps before they become one vector, for models that fuse frames; an encoder need not have any."""
        raise PaSEError(f"{type(self).__name__} gives a vector and no frames; give it a method `frames`.")

    @property
    def has_frames(self) -> bool:
        """Whether there are frames."""
        return type(self).frames is not Encoder.frames

    def learning_rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Parameters with a learning rate of their own; the others take the run's."""
        yield from ()


def build_encoders(inputs: Mapping[str, InputSpec], width: int) -> nn.ModuleDict:
    """One encoder a modality, each with vectors of size `width`."""
    encoders = nn.ModuleDict()
    for name, spec in inputs.items():
        if "." in name or not name or hasattr(encoders, name):
            raise PaSEError(
                f"A modality's name must not be empty, hold a dot or be a word that torch keeps for itself, found "
                f"{name!r}; rename it."
            )
        module = plugins.load("encoders", spec.encoder)
        config = plugins.configure(module.Config, spec.options, f"The {spec.encoder} encoder of {name}")
        encoders[name] = module.build(spec, width, config)
    return encoders
