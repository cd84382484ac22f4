"""Readers of published feature formats, one per file.

A reader has `sniff(path)`, which recognises its own files by their content, and `read(path, out)`, which makes a
`FeatureTable` of them. `tests/contracts/test_formats.py` states what every reader keeps to.
"""
