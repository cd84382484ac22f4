"""What papers report of their systems, and whether it shows here: with and without the system, on planted data.

    python -m experiments.behaviours                                  # all of them
    python -m experiments.behaviours momke_rare ogm_ge --seeds 5      # some of them

Each row plants the condition under which the paper's reason for its gain holds, and measures a pair: with the system,
and without it. Data, initial weights and order of the utterances differ from seed to seed and are the same for both of
a pair. "shown" is yes where the claimed sign holds for every seed. Epochs are selected on validation. The conditions
were chosen by such measurements: a yes says that the effect is there under them, and nothing of its size on other data.

The table goes to `experiments/results/behaviours.md`, every value to the CSV file beside it. Values that the CSV file
holds are kept; delete it to measure anew.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments import planted
from experiments.planted import Pair
from pase_msa.errors import PaSEError
from pase_msa.files import make_folder, replacing
from pase_msa.ranges import one_of
from pase_msa.report.numbers import mean_sd

OUT = Path(__file__).parent / "results" / "behaviours.md"
FIELDS = ("behaviour", "seed", "with", "without")

Claim = Literal["more", "less", "equal"]


@dataclass(frozen=True)
class Behaviour:
    """What a paper reports, and how it is measured.

    Attributes:
        paper: of the system.
        reported: in a few words.
        measured: the quantity, and on what.
        pair: what stands in the column "with", and what in "without".
        measure: function of the seed; a fraction for an accuracy.
        claim: how the first of the pair compares with the second, after the paper.
        metric: "accuracy", which is written in percent, or "loss".
    """

    paper: str
    reported: str
    measured: str
    pair: tuple[str, str]
    measure: Callable[[int], Pair]
    claim: Claim = "more"
    metric: str = "accuracy"


_OF_PATTERNS = "accuracy, mean over the six patterns of one or two of three modalities"
_GAP = "gap between the accuracies of two equally informative modalities alone, one learned first, SGD"
BEHAVIOURS = {
    "momke_rare": Behaviour(
        "MoMKE, Xu et al. 2024",
        "modalities gain from the experts of others",
        "accuracy from a modality alone that a tenth of the utterances have",
        ("momke", "concat"),
        planted.momke_rare,
    ),
    "momke_borrowing": Behaviour(
        "MoMKE, Xu et al. 2024",
        "the second stage adds to the first",
        "accuracy from a modality alone that a tenth of the utterances have",
        ("both stages", "the first stage"),
        planted.momke_borrowing,
    ),
    "mctn_source": Behaviour(
        "MCTN, Pham et al. 2019",
        "the source alone is needed to predict",
        "accuracy",
        ("source alone", "all modalities"),
        planted.mctn_source,
        "equal",
    ),
    "mctn_translation": Behaviour(
        "MCTN, Pham et al. 2019",
        "translation helps the source",
        "accuracy from the source alone, 60 labelled utterances",
        ("translation", "no translation"),
        planted.mctn_translation,
    ),
    "mmin": Behaviour(
        "MMIN, Zhao et al. 2021",
        "better where modalities are missing",
        _OF_PATTERNS,
        ("mmin", "concat"),
        planted.missing("mmin", 0.0),
    ),
    "mmin_dropout": Behaviour(
        "MMIN, Zhao et al. 2021",
        "better than training with hidden modalities alone",
        _OF_PATTERNS,
        ("mmin", "concat, modality dropout 0.3"),
        planted.missing("mmin", 0.3),
    ),
    "corrkd": Behaviour(
        "CorrKD, Li et al. 2024",
        "better where modalities are missing",
        _OF_PATTERNS,
        ("corrkd", "concat"),
        planted.missing("corrkd", 0.0),
    ),
    "corrkd_dropout": Behaviour(
        "CorrKD, Li et al. 2024",
        "better than training with hidden modalities alone",
        _OF_PATTERNS,
        ("corrkd", "concat, modality dropout 0.3"),
        planted.missing("corrkd", 0.3),
    ),
    "ogm_ge": Behaviour(
        "OGM-GE, Peng et al. 2022",
        "the modalities are learned more evenly",
        _GAP + ", 15 epochs",
        ("ogm_ge", "none"),
        planted.ogm_ge(15, 0.05, "all"),
        "less",
    ),
    "ogm_ge_late": Behaviour(
        "OGM-GE, Peng et al. 2022",
        "the modalities are learned more evenly",
        _GAP + ", 30 epochs at twice the rate",
        ("ogm_ge", "none"),
        planted.ogm_ge(30, 0.1, "all"),
        "less",
    ),
    "ogm_late": Behaviour(
        "OGM, Peng et al. 2022, without noise",
        "the modalities are learned more evenly",
        _GAP + ", 30 epochs at twice the rate",
        ("ogm_ge, noise none", "none"),
        planted.ogm_ge(30, 0.1, "none"),
        "less",
    ),
    "self_mm": Behaviour(
        "Self-MM, Yu et al. 2021",
        "heads learn once pseudo labels move, after two epochs",
        "mean loss of the heads",
        ("epochs 1 and 2", "epochs 3 to 5"),
        planted.self_mm,
        "less",
        "loss",
    ),
    "gcnet": Behaviour(
        "GCNet, Lian et al. 2023",
        "the conversation completes what an utterance lacks",
        "accuracy, 40 % of each modality missing",
        ("conversation", "each utterance by itself"),
        planted.gcnet,
    ),
}


def holds(claim: Claim, values: Pair) -> bool:
    """Whether the pair of a seed is as claimed."""
    one, two = values
    return one > two if claim == "more" else one < two if claim == "less" else one == two


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean ± deviation over seeds, in Markdown."""
    lines = [
        "| system | the paper reports | measured | with | without | shown |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, behaviour in BEHAVIOURS.items():
        pairs = [(float(row["with"]), float(row["without"])) for row in rows if row["behaviour"] == name]
        if not pairs:
            continue
        texts = [mean_sd(column, behaviour.metric) for column in zip(*pairs, strict=True)]
        cells = [f"{what}: {text}" for what, text in zip(behaviour.pair, texts, strict=True)]
        count = sum(holds(behaviour.claim, pair) for pair in pairs)
        verdict = f"{'yes' if count == len(pairs) else 'no'}, {count} of {len(pairs)} seeds"
        lines.append(
            f"| {behaviour.paper} | {behaviour.reported} | {behaviour.measured} | {' | '.join(cells)} | {verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BEHAVIOURS)}; all if none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT, help="the table; the values go to a CSV file beside it")
    options = parser.parse_args()
    try:
        names = [one_of(name, BEHAVIOURS, "NAME") for name in options.names] or list(BEHAVIOURS)
    except PaSEError as error:
        parser.error(str(error))
    logging.getLogger("pase_msa").setLevel(logging.ERROR)
    values, rows = options.out.with_suffix(".csv"), list[dict[str, Any]]()
    if values.is_file():
        with values.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    done = {(row["behaviour"], int(row["seed"])) for row in rows}
    make_folder(options.out.parent)
    for name, seed in itertools.product(names, range(1, options.seeds + 1)):
        if (name, seed) in done:
            continue
        one, two = BEHAVIOURS[name].measure(seed)
        rows.append({"behaviour": name, "seed": seed, "with": round(one, 6), "without": round(two, 6)})
        print(rows[-1], flush=True)
        rows.sort(key=lambda row: list(BEHAVIOURS).index(row["behaviour"]))
        with replacing(values) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    text = f"# What papers report, on planted data\n\n{table(rows)}\n"
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
