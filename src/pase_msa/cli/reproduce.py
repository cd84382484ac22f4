"""`pase reproduce` and `pase report`: options and what is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jsonargparse

from pase_msa.cli.studies import Command, parallel
from pase_msa.errors import PaSEError

_RESULTS, _RUNS = "experiments/results/reproduce", "runs/reproduce"


def _reproduce_options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("what", type=str, nargs="+", help="table1 to table5, figure1, figure3, ..., beyond, all")
    parser.add_argument("--data", type=str, action="append", help="folder or file; repeat it for several")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to this")
    parser.add_argument("--text", choices=("frozen", "fine-tuned"), default="frozen", help="use of the text encoder")
    parser.add_argument("--base", type=str, help="YAML with options of every run, as for `pase train`")
    parser.add_argument("--validation-only", action="store_true", help="do not read the test split")
    parser.add_argument("--out", type=str, help=f"folder of the tables and figures; {_RESULTS}/DATA if left out")
    parser.add_argument("--home", type=str, help=f"folder of the runs; {_RUNS}/DATA if left out")
    parser.add_argument("--language-model", type=str, action="append", help="whom table5 asks; repeat it for several")
    parser.add_argument("--base-url", type=str, help="of its server, or 'local', as for `pase ask`")
    parser.add_argument("--page", type=str, help="folder of Markdown pages of all results that are there, made anew")
    parallel(parser)


def reproduce(
    what: list[str],
    data: list[str] | None = None,
    seeds: int = 5,
    text: Any = "frozen",
    base: str | None = None,
    validation_only: bool = False,
    out: str | None = None,
    home: str | None = None,
    language_model: list[str] | None = None,
    base_url: str | None = None,
    page: str | None = None,
    jobs: int = 2,
    threads: int = 1,
    backend: Any = "loky",
) -> None:
    """Make tables and figures for each data set, and say where they are."""
    from pase_msa.reproduce.page import write_page
    from pase_msa.reproduce.run import reproduce as make
    from pase_msa.reproduce.subject import Subject
    from pase_msa.studies.study import read_mapping, seed_list

    paths: list[str | None] = [*data] if data else [None]
    if len(paths) > 1 and (out or home):
        raise PaSEError("--out and --home are for one data set; leave them out, or give one --data.")
    options = {} if base is None else read_mapping(Path(base))
    failures = []
    for path in paths:
        subject = Subject.of(
            path,
            seed_list(seeds),
            split="valid" if validation_only else "test",
            text=text,
            base=options,
            language_models={"names": language_model or [], "base_url": base_url},
        )
        command = ["pase", "reproduce", *what, *(["--data", path] if path else []), "--seeds", str(seeds)]
        command += [] if text == "frozen" else ["--text", text]
        command += ["--base", base] if base else []
        command += ["--validation-only"] if validation_only else []
        target = Path(out) if out else Path(_RESULTS) / subject.folder
        written, failed = make(
            what,
            subject,
            out=target,
            home=Path(home) if home else Path(_RUNS) / subject.name.replace("/", "-"),
            command=command,
            jobs=jobs,
            threads=threads,
            backend=backend,
            progress=sys.stderr.isatty(),
        )
        failures += failed
        for file in written:
            print(f"{file}")
        print(f"ledger: {target / 'ledger.md'}")
    if page is not None:
        print(f"page: {write_page(Path(page), Path(out).parent if out else Path(_RESULTS))}")
    if failures:
        said = "; ".join(sentence.rstrip(".") for sentence in failures)
        raise PaSEError(f"Not finished: {said}. The same command tries it again.")


def _report_options(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="evaluated run folders of one data set")
    parser.add_argument("--out", type=str, default="report.html", help="HTML file")


def report(runs: list[str], out: str = "report.html") -> None:
    """Write one page about several runs."""
    from pase_msa.report.group_page import write_group_report

    print(write_group_report(runs, out))


COMMANDS = {
    "reproduce": Command(
        "Make the tables and figures of the paper, and some beyond it, from runs that are shared.",
        _reproduce_options,
        reproduce,
    ),
    "report": Command("Write one HTML page about several evaluated runs.", _report_options, report),
}
