"""Timelines: files in which people annotate recordings, read for their segments and written with predictions.

A format is a module whose name is the ending of its files, found by its function `read`: `eaf` (ELAN), `textgrid`
(Praat), `srt` and `vtt` (subtitles). It has

- `read(path) -> list[Tier]`, the tiers of a file in its order;
- `write(path, timeline)`, a whole file; `path` may have any name.

`base` has the containers, `files` finds the format of a file, and `captions` is shared by the two kinds of subtitles.
"""
