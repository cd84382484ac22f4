"""The command line: one file per command, found by its name.

`pase NAME` is the function `NAME` of the module `pase_msa.cli.NAME`, and nothing registers it. Its typed parameters are
the options and its docstring is the help:

- Parameters before the star may be given by their place; those without a default must be.
- Parameters after the star are options. An underscore becomes a dash: `base_url` is `--base-url`.
- `bool = False` is a switch without a value.
- `list[str]` is names divided by commas, a repeated option, or both. `list[Path]` takes the words that follow, as a
  shell writes them for `runs/*`.
- A module may bring `add_options(parser, words)` where a signature cannot say what the options are, and
  `prepare(words)`, which rewrites the words before they are parsed.

A command imports what it needs inside its function, so that `pase --help` imports none of it.
"""
