"""Example clips for docs and tests: a spoken sentence over a face that moves.

The voice is eSpeak NG's (package espeakng-loader), the face a portrait that scikit-image carries (Eileen Collins, NASA,
public domain). Both are in the extra `examples`.
"""

from __future__ import annotations

import _ctypes
import ctypes
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.weights import Weights, require

PORTRAIT = Weights(
    "scikit-image",
    "0.26.0",
    "skimage.data",
    "astronaut.png",
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "public domain",
)


_PARAMETERS = {"speed": 1, "volume": 2, "pitch": 3, "span": 4}  # eSpeak NG's numbers for them


def speak(text: str, voice: str = "en-us", **prosody: int) -> tuple[Array, int]:
    """Synthesise speech: int16 [n] and the sampling rate in Hz.

    Args:
        text: in the language of the voice.
        voice: of eSpeak NG, for example "en-us", "en-us+f3" or "de".
        prosody: speed in words per minute (80 to 450), volume (0 to 200), pitch and span of the pitch (0 to 100); the
            voice's own where left out.
    """
    loader = require("espeakng_loader", "espeakng-loader")
    engine = ctypes.CDLL(loader.get_library_path())
    try:
        # 2: samples to a callback, at once
        rate = engine.espeak_Initialize(2, 0, str(loader.get_data_path()).encode(), 0)
        return _synthesised(engine, text, voice, prosody), int(rate)
    finally:
        # the voice wavers on from where its last sentence ended, so that each one gets a library of its own
        engine.espeak_Terminate()
        _unload(engine)


def _synthesised(engine: ctypes.CDLL, text: str, voice: str, prosody: Mapping[str, int]) -> Array:
    """The samples of a text, int16 [n]."""
    parts: list[Array] = []

    def keep(samples: Any, count: int, _: Any) -> int:
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    callback = kind(keep)  # bound to a name, since ctypes does not keep it alive while the engine calls it
    engine.espeak_SetSynthCallback(callback)
    if engine.espeak_SetVoiceByName(voice.encode()):
        raise PaSEError(f"eSpeak NG has no voice {voice!r}; take another, for example 'en-us'.")
    for name, value in prosody.items():
        engine.espeak_SetParameter(_PARAMETERS[name], int(value), 0)
    encoded = text.encode()
    engine.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, 1, None, None)
    engine.espeak_Synchronize()
    return np.concatenate(parts)


def _unload(library: ctypes.CDLL) -> None:
    """Give a library back to the system, with all that it remembers."""
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def portrait(width: int, height: int, progress: float) -> Image.Image:
    """The face, a little further to the side and nearer as `progress` goes from 0 to 1."""
    image = Image.open(PORTRAIT.path()).convert("RGB").crop((90, 0, 360, 270))
    side = round(min(width, height) * (0.7 + 0.25 * progress))
    frame = Image.new("RGB", (width, height), (40, 44, 52))
    x, y = (width - side) // 2 + round(0.05 * width * np.sin(2 * np.pi * progress)), (height - side) // 2
    frame.paste(image.resize((side, side), Image.Resampling.BILINEAR), (x, y))
    return frame


def write_clip(
    path: str | Path,
    *,
    sound: Array | None = None,
    rate: int = 22_050,
    frames: Iterable[Image.Image] | None = None,
    frame_rate: int = 10,
) -> Path:
    """Write a media file of a sound (int16 [n], or [2, n] for two channels), of pictures, or of both.

    The suffix decides its format.
    """
    av = require("av", "av")
    target = Path(path)
    with av.open(str(target), "w") as container:
        streams: list[tuple[Any, Iterable[Any]]] = []
        if frames is not None:
            pictures = iter(frames)
            first = next(pictures)
            # browsers play H.264, which not every build of FFmpeg has
            video = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=frame_rate)
            video.width, video.height, video.pix_fmt, video.bit_rate = *first.size, "yuv420p", 2_000_000
            streams.append((video, (av.VideoFrame.from_image(image) for image in _chain(first, pictures))))
        if sound is not None:
            codec = "pcm_s16le" if target.suffix == ".wav" else "aac"
            layout = "stereo" if sound.ndim == 2 else "mono"
            audio = container.add_stream(codec, rate=rate, layout=layout)
            packed = np.ascontiguousarray(sound.T).reshape(1, -1).astype(np.int16)  # sample by sample
            block = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            block.sample_rate = rate
            streams.append((audio, [block]))
        for stream, content in streams:
            for item in content:
                container.mux(stream.encode(item))
            container.mux(stream.encode(None))
    return target


def _chain(first: Image.Image, rest: Iterable[Image.Image]) -> Iterable[Image.Image]:
    yield first
    yield from rest


def write_example(
    path: str | Path, text: str, *, size: tuple[int, int] = (320, 240), frame_rate: int = 10, **prosody: int
) -> Path:
    """Write a video of the portrait that speaks a text; `prosody` as in `speak`."""
    sound, rate = speak(text, "en-us", **prosody)
    count = max(2, round(len(sound) / rate * frame_rate))
    frames = (portrait(*size, i / (count - 1)) for i in range(count))
    return write_clip(path, sound=sound, rate=rate, frames=frames, frame_rate=frame_rate)
