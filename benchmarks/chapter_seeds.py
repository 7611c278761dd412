"""How much do the chapter's figures differ from seed to seed?

Trains the chapter with seeds 0 to 9 on the book's text and writes, under
``results/``:

- ``chapter_seeds.csv``: the figures at the book's epochs, and the predictions
- ``chapter_curves.csv``: the perplexity of every epoch
- ``chapter_seeds.json``: the command, settings, versions and machine

    python benchmarks/chapter_seeds.py

The bands of ``d2l_deeprnn.book`` are derived from the first file.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from tqdm import tqdm

from d2l_deeprnn import book, reproduce

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="train seeds 0 to N - 1")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    with open(arguments.out / "chapter_seeds.csv", "w", newline="") as figures_file, open(
        arguments.out / "chapter_curves.csv", "w", newline=""
    ) as curves_file:
        figures = csv.writer(figures_file, lineterminator="\n")
        curves = csv.writer(curves_file, lineterminator="\n")
        figures.writerow(["seed", "epoch", "perplexity", "prediction_1", "prediction_2"])
        curves.writerow(["seed", "epoch", "perplexity"])
        for seed in tqdm(range(arguments.seeds), unit="seed", disable=None):
            run = reproduce.prepare("time_machine", book.CHAPTER.num_epochs, seed)
            reproduce.train(run, log=lambda line, seed=seed: tqdm.write(f"seed {seed}: {line}"))
            records = {record.epoch: record for record in run.history}
            for row in run.rows():
                predictions = records[row.epoch].predictions or ("", "")
                figures.writerow([seed, row.epoch, repr(row.perplexity), *predictions])
            for record in run.history:
                curves.writerow([seed, record.epoch, f"{record.perplexity:.6f}"])
            figures_file.flush()
            curves_file.flush()

    made_with = {
        "command": f"python benchmarks/chapter_seeds.py --seeds {arguments.seeds}",
        "seeds": list(range(arguments.seeds)),
        **{k: v for k, v in reproduce.config(run).items() if k != "seed"},
    }
    (arguments.out / "chapter_seeds.json").write_text(json.dumps(made_with, indent=2) + "\n")


if __name__ == "__main__":
    main()
