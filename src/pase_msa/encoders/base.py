"""The encoder contract: a sequence and its length become frames, where the encoder has any, and one vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa import plugins
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError

#: a map of frames [..., d], each by itself
Scale = Callable[[Tensor], Tensor]


class Encoder(nn.Module):
    """Sequence and length -> frames, and -> one vector.

    `frames` maps padded sequences [N, T, d] and lengths [N] to one vector per step, [N, S, width], for models that fuse
    frames; an encoder need not have it. `forward` maps the same to one vector per sequence, [N, width]. Padding changes
    neither, and a sequence of length 0 has a finite result, which the model masks.

    `scaled` is `forward` of scaled features; an encoder that leaves padding out may override it.

    A plug-in module offers `Config`, a dataclass of options, and `build(spec, width, config) -> Encoder`, where `width`
    is the size of vectors and frames. `tests/contracts/test_encoders.py` runs over every plug-in found.
    """

    @abstractmethod
    def forward(self, features: Tensor, lengths: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """One vector per sequence, from padded sequences [N, T, d] (or token ids [N, T]) and lengths [N]."""

    def scaled(self, features: Tensor, lengths: Int[Tensor, " n"], scale: Scale) -> Float[Tensor, "n d"]:
        """What `forward` gives for scaled features; `scale` maps frames [..., d] one by one."""
        vectors: Tensor = self(scale(features), lengths)
        return vectors

    def frames(
        self, features: Tensor, lengths: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """One vector per step, and which of them are valid, from the arguments of `forward`.

        An encoder may reduce a sequence to fewer steps; the mask says how many. Other steps are undefined.

        Errors:
            PaSEError: the encoder has no frames.
        """
        raise PaSEError(f"{type(self).__name__} gives a vector and no frames; give it a method `frames`.")

    @property
    def has_frames(self) -> bool:
        """Whether the encoder has frames."""
        return type(self).frames is not Encoder.frames

    def learning_rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Parameters with a learning rate of their own; all others have that of the run."""
        yield from ()


def build_encoders(inputs: Mapping[str, InputSpec], width: int) -> nn.ModuleDict:
    """One encoder per modality, each with vectors of size `width`.

    Errors:
        PaSEError: a name that torch cannot use, an unknown encoder, or an option that does not fit.
    """
    encoders = nn.ModuleDict()
    for name, spec in inputs.items():
        if "." in name or not name or hasattr(encoders, name):
            raise PaSEError(
                f"A modality's name must not be empty, contain a dot or be a name that torch uses itself, found "
                f"{name!r}; rename it."
            )
        module = plugins.load("encoders", spec.encoder)
        config = plugins.configure(module.Config, spec.options, f"The {spec.encoder} encoder of {name}")
        encoders[name] = module.build(spec, width, config)
    return encoders
