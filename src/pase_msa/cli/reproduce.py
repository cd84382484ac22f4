"""`pase reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

_TABLES, _RUNS = "runs/tables", "runs/reproduce"


def reproduce(
    what: list[str],
    *,
    data: list[str] | None = None,
    label: str | None = None,
    methods: list[str] | None = None,
    seeds: int = 5,
    text: Literal["frozen", "fine-tuned"] = "frozen",
    base: str | None = None,
    tuned: str | None = None,
    validation_only: bool = False,
    out: str | None = None,
    runs: str | None = None,
    language_model: list[str] | None = None,
    base_url: str | None = None,
    shots: int = 0,
    choices: bool = False,
    page: str | None = None,
    jobs: int = 2,
    threads: int = 1,
    backend: Literal["loky", "ray"] = "loky",
    timeout: float | None = None,
) -> None:
    """Make the tables and figures of the paper, and extra ones, from runs that they share.

    Args:
        what: table1 to table5, figure1, figure3, ...; extra for those that are not in the paper; all.
        data: folders or files; repeat the option for several.
        label: label column, where the data have several.
        methods: only these rows of the tables, such as "tfn,concat + agm,PaSE"; all if left out.
        seeds: number of seeds, 1 to this.
        text: use of the text encoder.
        base: YAML file with options of every run, as for `pase train`.
        tuned: YAML file with options by method, such as the options.yaml of a `pase sweep` over methods.
        validation_only: do not read the test split.
        out: folder of the tables and figures; runs/tables/DATA if left out, with further words where there is a label,
            or tables have some of their rows only.
        runs: folder of the runs; runs/reproduce/DATA if left out.
        language_model: names of the language models of table5, or folders of models on this machine.
        base_url: URL of their server, or "local", as for `pase ask`.
        shots: number of examples in the prompts of table5.
        choices: language models of table5 grade all answers, as for `pase ask`; folders only.
        page: folder of Markdown pages, one per data set, of all results that stand beside --out.
        jobs: worker processes.
        threads: of each worker; jobs x threads is the number of cores in use.
        backend: loky for processes of this machine, ray for a Ray cluster.
        timeout: longest duration of a run in seconds; one that takes longer has failed. No limit if left out.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.paper.page import write_page
    from pase_msa.paper.protocol import Protocol
    from pase_msa.paper.run import reproduce as make
    from pase_msa.paper.tuned import read_tuned
    from pase_msa.studies.study import read_mapping, seed_list

    paths: list[str | None] = [*data] if data else [None]
    if len(paths) > 1 and (out or runs):
        raise PaSEError("--out and --runs are for one data set; leave them out, or give one --data.")
    options = {} if base is None else read_mapping(Path(base))
    chosen = None if tuned is None else read_tuned(tuned)
    if label is not None and options.setdefault("label", label) != label:
        raise PaSEError(f"--label is {label!r}, but {base} has the label {options['label']!r}; leave one of them out.")
    selected = ["--label", label] if label else []
    selected += ["--methods", ",".join(methods)] if methods else []
    failures = []
    for path in paths:
        protocol = Protocol.of(
            path,
            seed_list(seeds),
            split="valid" if validation_only else "test",
            text=text,
            base=options,
            language_models={
                "names": language_model or [],
                "base_url": base_url,
                "shots": shots,
                "choices": choices,
            },
            tuned=chosen,
        )
        command = ["pase", "reproduce", *what, *(["--data", path] if path else []), "--seeds", str(seeds)]
        command += selected
        command += [] if text == "frozen" else ["--text", text]
        command += ["--base", base] if base else []
        command += ["--tuned", tuned] if tuned else []
        command += ["--language-model", ",".join(language_model)] if language_model else []
        command += ["--shots", str(shots)] if shots else []
        command += ["--choices"] if choices else []
        command += ["--validation-only"] if validation_only else []
        target = Path(out) if out else Path(_TABLES) / (protocol.folder + ("-selected" if methods else ""))
        written, failed = make(
            what,
            protocol,
            out=target,
            root=Path(runs) if runs else Path(_RUNS) / protocol.name.replace("/", "-"),
            command=command,
            methods=methods,
            jobs=jobs,
            threads=threads,
            backend=backend,
            progress=sys.stderr.isatty(),
            timeout=timeout,
        )
        failures += failed
        for file in written:
            print(f"{file}")
        print(f"ledger: {target / 'ledger.md'}")
    if page is not None:
        print(f"page: {write_page(Path(page), Path(out).parent if out else Path(_TABLES))}")
    if failures:
        reasons = "; ".join(sentence.rstrip(".") for sentence in failures)
        raise PaSEError(f"Not finished: {reasons}. The same command tries it again.")
