"""Update the generated parts of README.md, results/README.md and d2l_deeprnn/chapter/bands.py.

    python scripts/results.py            # or: make results
    python scripts/results.py DIRECTORY  # a copy of the project

They follow from the files in results/. In the pages, the text between ``<!-- begin NAME -->`` and
``<!-- end NAME -->`` is replaced by the result of the method ``NAME`` below. Nothing is trained or
measured.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import textwrap
from operator import itemgetter
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from d2l_deeprnn.chapter import book
from d2l_deeprnn.evidence.intervals import t_quantile
from d2l_deeprnn.evidence.records import (
    Cell,
    Row,
    Table,
    as_list,
    column,
    group_by,
    read_rows,
    select,
    spread,
    spread_of,
    summary_table,
)
from d2l_deeprnn.files import write_text

PAGES = ("README.md", "results/README.md")
BANDS = "d2l_deeprnn/chapter/bands.py"
# Printed training -> its tables over seeds, with this package and with the original library
OVER_SEEDS = {
    "chapter": ("chapter_seeds", "original_seeds"),
    "lecture": ("lecture_seeds", "lecture_original_seeds"),
}
FIRST_EPOCHS = 12  # the first hundred or so minibatches, before rounding grows
OURS = "d2l_deeprnn"
RIGHT = "nothing"  # is wrong in this training
# Runs on tinyshakespeare, with the seeds 0, 1 and 2 if there are several
TINYSHAKESPEARE = {
    "first training": ("tinyshakespeare",),
    "second training": tuple(f"tinyshakespeare_longer{seed}" for seed in ("", "_1", "_2")),
    "third training": tuple(f"tinyshakespeare_decay{seed}" for seed in ("", "_1", "_2")),
}
GOAL = 1.43  # nats per character
NANOGPT = "1.4697"  # nats per character, from its README
EARLY = 200  # minibatches, before rounding grows
WORK = ("num_hiddens", "batch_size", "busy_processes")
MILLISECONDS = spread_of("milliseconds", 0)


class Results:
    """The generated parts of the pages, from the files in a directory. Each method returns one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def rows(self, name: str) -> List[Row]:
        return read_rows(self.directory / f"{name}.csv")

    def described(self, name: str) -> Dict[str, Any]:
        return dict(json.loads((self.directory / f"{name}.json").read_text(encoding="utf-8")))

    def over_seeds(self, training: book.PrintedTraining) -> List[List[Row]]:
        """Return our rows over seeds and the original's; none if they have not been measured."""
        names = OVER_SEEDS[training.name]
        return [
            self.rows(name) if (self.directory / f"{name}.csv").exists() else [] for name in names
        ]

    # In short ----------------------------------------------------------------------------------

    def in_short(self) -> str:
        """Return the answers to how fast, how good and how sure, one line each."""
        last = book.BOOK.printed[-1]
        ours, originals = (
            spread(column(select(rows, epoch=last.epoch), "perplexity"), 3)
            for rows in self.over_seeds(book.BOOK)
        )

        def ratio(name: str, other: str) -> str:
            programs = group_by(self.rows(name), "contestant")
            return ratios(programs[OURS], programs[other])

        losses, (_, half) = self._pairs(), self._outside()
        errors = [abs(a - b) / b for pair in losses.values() for a, b in list(zip(*pair))[:EARLY]]
        nats = [self.described(f"{n}/evaluation") for n in TINYSHAKESPEARE["third training"]]
        original = "d2l 0.9.1 as installed"
        lines = [
            f"**The same numbers.** On the same seed, the losses of the first {EARLY} minibatches "
            f"agree with the original library's to within {float(f'{100 * max(errors):.0e}'):g} %.",
            f"**As good.** At epoch {last.epoch}, training perplexity is {ours} over ten seeds; "
            f"the original's is {originals}, and the book's {last.perplexity:.3f}.",
            "**Faster.** The chapter's cells take "
            f"{ratio('whole_process', original)} of the original's time as installed. A minibatch "
            f"takes {ratio('minibatch', original)} of it, and with all threads on both sides "
            f"{ratio('minibatch', 'd2l 0.9.1, all threads')}. It takes "
            f"{ratio('minibatch', 'PyTorch as installed')} of PyTorch's time as installed, and "
            f"{ratio('minibatch', 'PyTorch, same allocator')} with our allocator setting.",
            f"**On a larger text.** On tinyshakespeare, an LSTM has a held-out loss of "
            f"{spread(column(nats, 'nats_1_row'), 3)} nats per character; nanoGPT's character "
            f"model has {NANOGPT}.",
            f"**How sure.** About {100 * half:.0f} % of right runs are outside the expected ranges "
            "at one of the book's epochs, so a verdict that a run differs may be wrong.",
        ]
        return "\n".join(textwrap.fill(f"- {line}", 100, subsequent_indent="  ") for line in lines)

    # The chapter's results over seeds ----------------------------------------------------------

    def seeds(self) -> str:
        return self._seeds(book.BOOK)

    def _seeds(self, training: book.PrintedTraining) -> str:
        """Return the table of the printed values beside those of both libraries over seeds."""
        tables = dict(zip(("ours", "original"), self.over_seeds(training)))
        bands = bands_of([*tables["ours"], *tables["original"]])
        shown = f"{{:.{training.digits}f}}".format
        columns = ["epoch", training.source]
        for library, found in tables.items():
            columns += [f"{library}: median (lowest to highest)"] if found else []
        columns += ["expected of one run"] if bands else []
        rows = []
        for line in training.printed:
            cells = [str(line.epoch), shown(line.perplexity)]
            for found in filter(None, tables.values()):
                values = column(select(found, epoch=line.epoch), "perplexity")
                cells.append(spread(values, training.digits))
            if bands:
                cells.append(" to ".join(map(shown, bands[line.epoch])))
            rows.append(cells)
        return table(columns, rows)

    def seeds_text(self) -> str:
        ours, originals = (
            {e: column(rows, "perplexity") for e, rows in group_by(found, "epoch").items()}
            for found in self.over_seeds(book.BOOK)
        )
        n = len(ours[500])
        late = [line.epoch for line in book.BOOK.printed if line.epoch > 125]
        within = [[sum(p <= 1.06 for p in runs[e]) for e in late] for runs in (ours, originals)]
        return paragraph(
            f"{self._below(book.BOOK)} The book's values are below 1.06 from epoch 250 on; "
            f"at epochs {listed(late)}, {listed(within[0])} of our {n} runs are, and "
            f"{listed(within[1])} of the original's {len(originals[500])}. "
            f"{self._sentences(book.BOOK)} {self._last_value()}"
        )

    def _last_value(self) -> str:
        """Say how unusual the book's last value is among the runs of both libraries."""
        line = book.BOOK.printed[-1]
        judged = [
            math.log(math.log(row["judged"]))
            for rows in self.over_seeds(book.BOOK)
            for row in select(rows, epoch=line.epoch)
        ]
        n = len(judged)
        error = statistics.stdev(judged) * math.sqrt(1 + 1 / n)
        t = (math.log(math.log(line.perplexity)) - statistics.mean(judged)) / error
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            low, high = (p, high) if t_quantile(1 - p / 2, n - 1) > t else (low, p)
        above = sum(math.log(math.log(line.perplexity)) > value for value in judged)
        return (
            f"The book's last value, {line.perplexity:.3f}, is above {above} of the {n} runs of "
            f"both libraries (p = {p:.3f} for this value, {4 * p:.3f} for one of four). Probably "
            "the authors' run was on its way down from a jump, as ours are now and then at such "
            "values."
        )

    def lecture(self) -> str:
        return self._seeds(book.LECTURE)

    def lecture_text(self) -> str:
        if not all(self.over_seeds(book.LECTURE)):
            return paragraph(
                "How much runs with these settings vary has not been measured yet, so there are no "
                "expected ranges: `d2l-deeprnn reproduce --settings lecture` shows a run's values "
                "beside the authors', without a verdict. `python benchmarks/seeds.py --settings "
                "lecture`, then `make results`, adds the ranges."
            )
        words = f"{self._below(book.LECTURE)} {self._sentences(book.LECTURE)}"
        picture = "![The curves of our runs, with the lecture's six values](lecture.svg)"
        return f"{paragraph(words)}\n\n{picture}"

    def _below(self, training: book.PrintedTraining) -> str:
        """Count our runs that are below the printed values."""
        ours, _ = self.over_seeds(training)
        runs = {e: column(rows, "perplexity") for e, rows in group_by(ours, "epoch").items()}
        below = [sum(p < line.perplexity for p in runs[line.epoch]) for line in training.printed]
        epochs = listed(runs)
        return (
            f"Of our {len(set(column(ours, 'seed')))} runs, {listed(below)} are below the "
            f"{training.source}'s value at epochs {epochs}."
        )

    def _sentences(self, training: book.PrintedTraining) -> str:
        """Count our predictions that are the printed ones."""
        ours, _ = self.over_seeds(training)
        predictions = [
            (row[f"prediction_{i + 1}"], printed)
            for row in ours
            for i, printed in enumerate(training.predictions.get(row["epoch"], ()))
        ]
        same = sum(text == printed for text, printed in predictions)
        source = training.source
        return f"Of our {len(predictions)} predictions, {same} are the {source}'s own sentence."

    def coverage(self) -> str:
        rows = self.rows("interval_coverage")
        skewed = [
            row["coverage"] for row in rows if re.match("simulated, (gamma|log)", row["what"])
        ]
        left_out, halves = self._outside()
        shares = [
            f"{100 * row['coverage']:.1f} % at the epochs {row['epochs']}"
            for row in select(rows, what="left out, ours")
        ]
        runs = sum(map(len, self._pairs().values()))
        return paragraph(
            "The interval assumes that the logarithm of the loss is normally distributed from seed "
            "to seed. It is skewed. In simulations with the measured skewness, the intervals "
            f"contain {100 * min(skewed):.1f} to {100 * max(skewed):.1f} % of further runs at each "
            f"epoch. If each of the {runs} runs is judged by the intervals from the others, "
            f"{100 * left_out:.0f} % are outside at one of the book's epochs; if ten of them are "
            f"judged by the intervals from the other ten, {100 * halves:.0f} % are. So of a "
            "hundred right runs, expect a few to be called wrong. When each of our ten trainings "
            f"is compared with the interval from the other nine, {listed(shares)} lie inside. "
            f"{self._jumps()}"
        )

    def _outside(self) -> List[float]:
        """Return shares of right runs outside their intervals: from all others, from one half."""
        rows = self.rows("interval_coverage")
        names = ("left out", "halves")
        return [1 - select(rows, what=name, epochs="any")[0]["coverage"] for name in names]

    def _jumps(self) -> str:
        """Count the trainings that jump."""
        counts = []
        for trainings in zip(*self._pairs().values()):  # ours, and the original's
            curves = [book.perplexities_of_epochs(losses) for losses in trainings]
            jumps = [
                any(book.comparable_perplexity(c, e) < c[e] for e in c if e >= book.JUMPS_FROM)
                for c in curves
            ]
            counts += [sum(jumps), len(jumps)]
        ours, of_ours, originals, of_originals = counts
        return (
            f"From epoch {book.JUMPS_FROM} on, {ours} of our {of_ours} trainings and {originals} "
            f"of the original's {of_originals} jump to more than twice their usual loss for a few "
            "epochs. A value on a jump is replaced, also in the interval, by the median of the "
            f"{book.AROUND_A_JUMP} epochs that end there."
        )

    def new_seeds(self) -> str:
        rows = self.rows("new_seeds")
        outside = [f"{row['outside']}" for row in rows if row["outside"]]
        refused = [row for row in rows if row["agrees"] != "True"]
        text = (
            f"On {seeds_named(column(rows, 'seed'))}, from which no range was computed, "
            f"`reproduce` refuses {len(refused)} of {len(rows)} right runs."
        )
        if outside:
            text += f" Outside their ranges are values at epoch {listed(outside)}."
        share, n, least = self._outside()[1], len(rows), len(refused)
        tail = 1 - sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(least))
        if refused:
            text += (
                f" If {100 * share:.0f} in a hundred are refused, at least {least} of {n} are with "
                f"a probability of {100 * tail:.0f} %."
            )
        return paragraph(text)

    def broken_trainings(self) -> str:
        rows = self.rows("broken_trainings")
        columns: Dict[str, Cell] = {
            "seeds": lambda rows: str(len(rows)),
            "refused with a known seed by": refusals("test", "epoch"),
            "refused with another seed by": refusals("test_without_losses", "epoch_without_losses"),
        }
        trainings = group_by(rows, "training")
        return summary_table("", ["what is wrong"], trainings, columns).markdown()

    def broken_trainings_text(self) -> str:
        trainings = group_by(self.rows("broken_trainings"), "training")
        del trainings[RIGHT]
        passing = [
            [name for name, rows in trainings.items() if not all(column(rows, test))]
            for test in ("test", "test_without_losses")
        ]
        known, others = (
            f"{len(trainings) - len(names)} of {len(trainings)} broken trainings are refused"
            + (f" (not: {', '.join(names)})" if names else "")
            for names in passing
        )
        seeds = seeds_named(set(column(self.rows("broken_trainings"), "seed")))
        return paragraph(f"On {seeds}, {known}. Without the known losses, {others}.")

    def plateau(self) -> str:
        return paragraph(
            f"The interval for epoch 125 ends at {book.BOOK.bands[125].high}, below "
            f"{book.UNIGRAM_PERPLEXITY}, the perplexity of a network that knows only character "
            "frequencies."
        )

    # Beside the original, minibatch by minibatch -----------------------------------------------

    def agreement(self) -> str:
        pairs = self._pairs()
        errors = [[abs(a - b) / b for a, b in zip(*pair)] for pair in pairs.values()]
        differing = [i + 1 for e in errors for i, error in enumerate(e) if error]
        first = f"that of minibatch {min(differing)}" if differing else "none of them"
        marks = (100, 200, 300, 500, 1000)
        greatest = [f"{max(max(e[:n]) for e in errors):.1g}" for n in marks]
        printed = [
            [f"{book.perplexities_of_epochs(losses)[125]:.6f}" for losses in pair]
            for pair in pairs.values()
        ]
        equal = sum(a == b for a, b in printed)
        text = (
            f"Both libraries were trained with one thread on {seeds_named(pairs)} "
            f"([`seeds`](seeds)). The first loss that differs at all is {first}. "
            f"Up to minibatch {listed(marks)}, the greatest relative error of a loss is "
            f"{listed(greatest)}; a unit in the last place of float32 is up to 1.2e-07. At epoch "
            f"125, {equal} of {len(pairs)} perplexities are the original's in all six digits that "
            "it prints."
        )
        if set(pairs) != set(column(self.rows("chapter_seeds"), "seed")):
            text += (
                " The table above is of earlier trainings, with two threads and with each "
                "parameter clipped and updated by itself."
            )
        return paragraph(text)

    def _pairs(self) -> Dict[int, Tuple[List[float], List[float]]]:
        """Return the losses of all minibatches, ours and the original's, by seed."""
        losses: Dict[int, Dict[str, List[float]]] = {}
        for path in (self.directory / "seeds").glob("*.json"):
            training = json.loads(path.read_text(encoding="utf-8"))
            if training["num_epochs"] == book.CHAPTER.num_epochs:
                losses.setdefault(training["seed"], {})[training["library"]] = training["losses"]
        return {
            seed: (losses[seed]["ours"], losses[seed]["original"])
            for seed in sorted(losses)
            if len(losses[seed]) == 2
        }

    def kernels(self) -> str:
        rows = []
        for kernels, pairs in group_by(self.rows("first_minibatches"), "kernels").items():
            by_a = {row["a"]: row for row in pairs}
            cells = [kernels]
            for a in "ours", "arrays", "original":
                row = by_a.get(a, {"first_difference": "", "error_up_to_100": ""})
                cells += [str(row["first_difference"]), f"{row['error_up_to_100']}"]
            rows.append(cells)
        first = "ours beside the original: first", "array by array: first"
        columns = ["kernels", first[0], "error", first[1], "error"]
        return table([*columns, "original beside itself: first", "error"], rows)

    # Time and memory ---------------------------------------------------------------------------

    def _contest(self, name: str, title: str, columns: Dict[str, Cell]) -> str:
        """Return the table of programs that were timed in turn."""
        programs = group_by(self.rows(name), "contestant")

        def ratio(rows: List[Row]) -> str:
            return "1" if rows is programs[OURS] else ratios(programs[OURS], rows)

        columns = {**columns, "ours / it": ratio}
        return summary_table("", [title], programs, columns).markdown()

    def _milliseconds(self, name: str, digits: int) -> Cell:
        """Return a cell function for the milliseconds per minibatch."""
        scale = 1000 / self.described(name)["settings"]["minibatches"]
        return spread_of("seconds", digits, lambda seconds: scale * seconds)

    def whole_process(self) -> str:
        columns = {
            "seconds": spread_of("seconds", 1),
            "peak memory": lambda rows: (
                f"{statistics.median(column(rows, 'peak_memory_mib')):.0f} MiB"
            ),
        }
        return self._contest("whole_process", "program", columns)

    def run_time(self) -> str:
        last = self.rows("chapter/metrics")[-1]
        return paragraph(
            f"The {last['epoch']} epochs of the run in [the plot](chapter/perplexity.svg) took "
            f"{last['seconds']:.0f} seconds on the same machine (`d2l-deeprnn reproduce --seed 0 "
            "--out results/chapter`). The book's authors had a GPU, and needed "
            f"{sum(line.seconds for line in book.BOOK.printed):.1f} seconds."
        )

    def minibatch(self) -> str:
        milliseconds = self._milliseconds("minibatch", 1)

        def of_program(rows: List[Row]) -> str:
            is_bound = rows[0]["contestant"].startswith("lower bound")
            return milliseconds([min(rows, key=itemgetter("seconds"))] if is_bound else rows)

        columns = {"milliseconds": of_program}
        return self._contest("minibatch", "one minibatch of the chapter", columns)

    def busy(self) -> str:
        milliseconds = self._milliseconds("busy", 0)
        programs = group_by(self.rows("busy"), "program")
        numbers = list(group_by(programs[OURS], "busy_processes"))
        cells = []
        for name, rows in programs.items():
            times = group_by(rows, "busy_processes")
            cells.append([name, *(milliseconds(times[n]) if n in times else "" for n in numbers)])
        return table(["milliseconds per minibatch", *(f"beside {n:.0f}" for n in numbers)], cells)

    def widths(self) -> str:
        cells = []
        minibatches = self.described("widths")["settings"]["minibatches"]
        for width, rows in group_by(self.rows("widths"), "num_hiddens").items():
            scale = 1000 / minibatches[str(width)]
            milliseconds = spread_of("seconds", 0, lambda seconds, scale=scale: scale * seconds)
            ours, *others = group_by(rows, "contestant").values()
            compared = [ratios(ours, theirs) for theirs in others]
            cells.append([str(width), *map(milliseconds, [ours, *others]), *compared])
        columns = ["hidden units", "ours, milliseconds", "PyTorch as installed"]
        columns += ["PyTorch, same allocator", "ours / as installed", "ours / same allocator"]
        return table(columns, cells)

    def ranks(self) -> str:
        cells = []
        for work, rows in group_by(self.rows("ranks"), *WORK).items():
            alone = select(rows, threads=2, mpiexec="False")
            launched = select(rows, threads=2, mpiexec="True")
            two = select(rows, ranks=2)
            if two:
                ratio = ratios(two, alone, name="milliseconds")
                cells.append([*map(str, work), *map(MILLISECONDS, (alone, two)), ratio])
            if launched:
                mpiexec = ratios(launched, alone, 3, name="milliseconds")
        columns = ["hidden units", "rows", "busy processes beside", "one process, 2 threads"]
        columns += ["2 ranks, 1 thread each", "2 ranks / one process"]
        words = f"One process takes {mpiexec} times as long if mpiexec starts it."
        return f"{table(columns, cells)}\n\n{words}"

    def ranks_apart(self) -> str:
        cells = []
        for (width, batch_size, _), rows in group_by(self.rows("ranks_apart"), *WORK).items():
            one = select(rows, processes=1)
            others = select(rows, ranks=2), select(rows, ranks=1, processes=2)
            compared = [ratios(other, one, name="milliseconds") for other in others]
            times = map(MILLISECONDS, (one, *others))
            cells.append([str(width), str(batch_size), *times, *compared])
        columns = ["hidden units", "rows", "one process, 2 threads", "2 ranks", "2 apart"]
        return table([*columns, "2 ranks / one process", "2 apart / one process"], cells)

    def ranks_sum(self) -> str:
        columns = {"milliseconds to sum their gradients": spread_of("milliseconds", 1)}
        groups = {
            f"{millions:g}": rows
            for millions, rows in group_by(self.rows("ranks_sum"), "million_parameters").items()
        }
        return summary_table("", ["million parameters"], groups, columns).markdown()

    def ranks_links(self) -> str:
        sums = select(self.rows("ranks_links"), what="sum")
        links = list(group_by(sums, "gigabits"))
        cells = [
            [f"{millions:g}", *(MILLISECONDS(select(rows, gigabits=link)) for link in links)]
            for millions, rows in group_by(sums, "million_parameters").items()
        ]
        return table(
            ["million parameters", *(f"{link:g} Gbit/s, milliseconds" for link in links)], cells
        )

    def ranks_model(self) -> str:
        of_two = select(self.rows("ranks_model"), machines=2)
        rows = [
            [
                str(row["num_hiddens"]),
                f"{row['gigabits']:g}",
                f"{row['predicted_milliseconds']:.0f}",
                f"{row['measured_milliseconds']:.0f}",
            ]
            for row in of_two
        ]
        columns = ["hidden units", "Gbit/s", "predicted for two machines, milliseconds", "measured"]
        error, worst = max(
            (row["measured_milliseconds"] / row["predicted_milliseconds"], i)
            for i, row in enumerate(of_two)
        )
        words = (
            f"With {of_two[worst]['num_hiddens']} units and {of_two[worst]['gigabits']:g} Gbit/s, "
            f"the measured time is {error:.2f} times the predicted one: there the curves promise "
            "too much."
        )
        return f"{table(columns, rows)}\n\n{paragraph(words)}"

    def time_to_perplexity(self) -> str:
        goal = self.described("time_to_perplexity")["settings"]["goal"]
        if any(row["perplexity"] > goal for row in self.rows("time_to_perplexity")):
            raise ValueError(f"time_to_perplexity.csv has a run that never reached {goal}")
        columns = {"seconds": spread_of("seconds", 0), "epochs": spread_of("epochs", 0)}
        return self._contest("time_to_perplexity", f"to training perplexity {goal}", columns)

    def generation(self) -> str:
        length = self.described("generation")["settings"]["num_chars"]
        programs = group_by(self.rows("generation"), "contestant")
        columns = {"characters per second": characters_a_second}
        return summary_table("", [f"writing {length} characters"], programs, columns).markdown()

    def exported_generation(self) -> str:
        contestants = group_by(self.rows("exported_generation"), "contestant")
        cells: Dict[str, Dict[str, str]] = {}
        for name, rows in contestants.items():
            program, _, width = name.rpartition(", ")
            cells.setdefault(program, {})[width] = characters_a_second(rows)
        columns = ["characters per second", *cells[OURS]]
        return table(columns, [[name, *widths.values()] for name, widths in cells.items()])

    def copying(self) -> str:
        one, several = group_by(self.rows("copying"), "contestant").values()
        return paragraph(
            f"After one such copy a minibatch takes {ratios(several, one)} times as long."
        )

    def own_models(self) -> str:
        contestants = group_by(self.rows("own_models"), "contestant")
        rows = []
        for task in "training", "decoding":
            fast, own, theirs = (
                contestants[f"{task}, {name}"]
                for name in ("the chapter's", "own", "own, d2l 0.9.1")
            )
            rows.append([task, ratios(own, fast), ratios(theirs, fast)])
        columns = ["time, as a multiple of the fast path's", "plain path", "d2l 0.9.1, all threads"]
        return table(columns, rows)

    def memory(self) -> str:
        rows = [
            [f"{row['minibatches']:,}", f"{row['resident_mib']:.1f}"]
            for row in self.rows("memory")
            if row["minibatches"] in (500, 1500, 5000)
        ]
        return table(["minibatches of a small network", "resident memory, MiB"], rows)

    def large_texts_ranks(self) -> str:
        rows = self.rows("large_texts_ranks")
        most = max(column(rows, "peak_mib"))
        return paragraph(
            f"Two processes that train together (`mpiexec -n 2`) on {rows[0]['characters']:,} "
            f"characters have up to {most} MiB each."
        )

    def large_texts(self) -> str:
        minibatches = self.described("large_texts")["settings"]["minibatches"]

        def second(name: str) -> Cell:
            return lambda rows: spread_of(name, 2)(select(rows, start="second"))

        columns = {
            "seconds to read": lambda rows: spread_of("reading_seconds", 2)(
                select(rows, start="first")
            ),
            "at the second start": second("reading_seconds"),
            "to the end of the first minibatch there": second("first_minibatch_seconds"),
            f"{minibatches} minibatches more": spread_of("minibatches_seconds", 2),
            "scoring of up to 100,000 characters": spread_of("scoring_seconds", 2),
            "most memory, MiB": lambda rows: str(max(column(rows, "peak_mib"))),
        }
        groups = group_by(self.rows("large_texts"), "characters").items()
        by_length = {f"{length:,}": rows for length, rows in groups}
        return summary_table("", ["characters"], by_length, columns).markdown()

    # Other networks and texts ------------------------------------------------------------------

    def scratch(self) -> str:
        chosen = [
            ("from scratch", "scratch_chapter", "scratch"),
            (
                "from scratch, two biases per gate",
                "two_biases/scratch_chapter",
                "scratch_two_biases",
            ),
            ("Gluon's", "scratch_chapter", "gluon"),
        ]
        rows = []
        for label, name, network in chosen:
            epochs = select(self.rows(name), network=network)
            seconds = [0.0, *column(epochs, "seconds")]
            # The median, since other work on the machine has disturbed some epochs.
            per_epoch = statistics.median(b - a for a, b in zip(seconds, seconds[1:]))
            last = epochs[-1]
            cells = [str(last["epoch"]), f"{last['perplexity']:.3f}", f"{per_epoch:.2f}"]
            rows.append([label, *cells])
        return table(["network", "epochs", "last perplexity", "seconds per epoch (median)"], rows)

    def tinyshakespeare(self) -> str:
        rows = []
        for kind, names in TINYSHAKESPEARE.items():
            runs = [self.described(f"{name}/evaluation") for name in names]
            rows.append(
                [
                    f"this LSTM, {kind}",
                    str(len(names)),
                    spread(column(runs, "best_epoch"), 0),
                    spread([run["seconds_to_best_epoch"] / 60 for run in runs], 0),
                    spread(column(runs, "nats_1_row"), 4),
                ]
            )
        names = {
            "modified Kneser-Ney": "n-gram of order {}, modified Kneser-Ney, same split",
            "PPMd": "PPMd of order {}, same split; it counts, and learns while it reads",
        }
        nanogpt = "nanoGPT's character model on a data-centre GPU, as its README says"
        rows += [
            *(
                [names[r["model"]].format(r["order"]), "", "", "", f"{r['nats']:.4f}"]
                for r in select(self.rows("counting"), text="tinyshakespeare")
            ),
            [nanogpt, "", "", "", NANOGPT],
        ]
        columns = ["model", "seeds", "best epoch", "minutes to it", "held-out nats per character"]
        return table(columns, rows)

    def tinyshakespeare_seeds(self) -> str:
        rows = []
        for name in TINYSHAKESPEARE["third training"]:
            evaluation = self.described(f"{name}/evaluation")
            metrics = self.rows(f"{name}/metrics")
            low = next(row for row in metrics if row["valid_loss"] <= GOAL)
            rows.append(
                [
                    str(self.described(f"{name}/config")["settings"]["seed"]),
                    f"{evaluation['nats_1_row']:.4f}",
                    f"{metrics[-1]['seconds'] / 60:.1f}",
                    str(low["epoch"]),
                    f"{low['seconds'] / 60:.1f}",
                ]
            )
        columns = ["seed", "held-out nats per character", "minutes, all epochs"]
        return table([*columns, f"first epoch with at most {GOAL}", "minutes to it"], rows)

    def export(self) -> str:
        rows = [[row["library"], f"{row['nats']:.7f}"] for row in self.rows("export")]
        return table(["the same model in", "held-out nats per character"], rows)

    def tinyshakespeare_settings(self) -> str:
        found = self.rows("tinyshakespeare_settings")
        rows = [
            [row["setting"], f"{row['train_loss']:.3f}", f"{row['valid_loss']:.3f}"]
            for row in select(found, epoch=max(column(found, "epoch")))
        ]
        return table(["changed", "training nats", "held-out nats"], rows)

    def no_dropout(self) -> str:
        last = self.rows("tinyshakespeare_no_dropout/metrics")[-1]
        return paragraph(
            f"Without dropout, the first run of the table above ends at {last['valid_loss']:.4f} "
            f"held-out and {last['train_loss']:.4f} training nats "
            "([`tinyshakespeare_no_dropout`](tinyshakespeare_no_dropout))."
        )

    # Commands ----------------------------------------------------------------------------------

    def commands(self) -> str:
        rows: List[List[str]] = []
        letters: Dict[str, str] = {}  # of the machines
        for path in sorted(self.directory.glob("**/*.json")):
            name = path.relative_to(self.directory).with_suffix("").as_posix()
            described = self.described(name)
            if "command" not in described or name.startswith("seeds/"):
                continue
            machines = []
            for machine in filter(None, as_list(described.get("machine", {}))):
                cores = machine["physical_cores_available"]
                words = f"{machine['processor']}, {cores} cores"
                letter = letters.setdefault(words, chr(ord("A") + len(letters)))
                machines.append(f"{letter}, {machine['threads']}")
            used = [v.items() for v in as_list(described.get("versions", {}))]
            ours = {number for each in used for name, number in each if name == "d2l_deeprnn"}
            others = {
                f"{n} {v}" for each in used for n, v in each if n in ("d2l", "torch", "pyppmd")
            }
            made_with = [
                ", ".join(sorted(ours)),
                "; ".join(filter(None, machines)),
                ", ".join(sorted(others)),
            ]
            rows.append([f"`{name}`", f"`{described['command']}`", *made_with])
        named = [f"{letter} is an {words}." for words, letter in letters.items()]
        columns = ["file", "command", "version", "machine, threads", "other libraries"]
        return f"{' '.join(named)}\n\n{table(columns, rows)}"


def bands_of(rows: Sequence[Row]) -> Dict[int, Tuple[float, float]]:
    """Return 99.9 % prediction intervals for one more run, by epoch, from one row per run.

    They assume that log(loss), where the loss is log(perplexity), is normally distributed. There
    are none for fewer than twenty runs.
    """
    bands: Dict[int, Tuple[float, float]] = {}
    for epoch, runs in group_by(rows, "epoch").items():
        if len(runs) < 20:
            continue
        logs = [math.log(math.log(perplexity)) for perplexity in column(runs, "judged")]
        middle, n = statistics.mean(logs), len(logs)
        margin = t_quantile(0.9995, n - 1) * statistics.stdev(logs) * math.sqrt(1 + 1 / n)
        low, high = (math.exp(math.exp(middle + side * margin)) for side in (-1, 1))
        bands[epoch] = low, high
    return bands


def write_bands(module: Path, results: Results) -> None:
    """Write intervals and first losses into the module ``d2l_deeprnn.chapter.bands``."""
    lines = []
    for training in book.TRAININGS.values():
        bands = bands_of([row for rows in results.over_seeds(training) for row in rows])
        lines.append(f'    "{training.name}": {{' + ("" if bands else "},"))
        for epoch, ends in bands.items():
            low, high = (f"{end:.{training.digits}f}" for end in ends)
            lines.append(f"        {epoch}: Band({low}, {high}),")
        lines += ["    },"] if bands else []
    losses = []
    for seed, (ours, _) in results._pairs().items():
        of_epochs = book.perplexities_of_epochs(ours[: FIRST_EPOCHS * book.MINIBATCHES])
        numbers = [f"{math.log(perplexity):.6f}" for perplexity in of_epochs.values()]
        half = FIRST_EPOCHS // 2
        losses += [f"    {seed}: ({', '.join(numbers[:half])},"]
        losses += [f"        {', '.join(numbers[half:])}),"]
    text = module.read_text(encoding="utf-8")
    for name, written in {"bands": lines, "first losses": losses}.items():
        pattern = rf"(?<=    # begin {name}\n).*?(?=    # end {name}\n)"
        text = re.sub(pattern, "".join(f"{line}\n" for line in written), text, flags=re.DOTALL)
    write_text(module, text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return Table("", columns, rows).markdown()


def paragraph(words: str) -> str:
    return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False)


def listed(items: Any) -> str:
    """Return items as ``a, b and c``."""
    *first, last = [f"{item:,}" if isinstance(item, int) else str(item) for item in items]
    return f"{', '.join(first)} and {last}" if first else last


def seeds_named(seeds: Any) -> str:
    """Return ``the seeds 0 to 9``, or a list of the seeds."""
    numbers = sorted(seeds)
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"the seeds {numbers[0]} to {numbers[-1]}"
    return f"the seed{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def ratios(
    rows: Sequence[Row], others: Sequence[Row], digits: int = 2, name: str = "seconds"
) -> str:
    """Return the ratio of two programs' times, round by round."""
    times = zip(column(rows, name), column(others, name))
    return spread([a / b for a, b in times], digits)


def refusals(test: str, epoch: str) -> Cell:
    """Return a cell function for the tests that refuse trainings, and the epochs.

    Args:
        test, epoch: names of the columns; both are empty if a training is not refused.
    """

    def cell(rows: List[Row]) -> str:
        cells = []
        for name, refused in group_by(rows, test).items():
            epochs = sorted(set(column(refused, epoch)))
            words = f"{name}, epoch {' or '.join(map(str, epochs))}" if name else "none"
            if len(refused) < len(rows):
                words += f" ({len(refused)} of {len(rows)})"
            cells.append(words)
        return "; ".join(cells)

    return cell


def characters_a_second(rows: List[Row]) -> str:
    return spread([row["characters"] / row["seconds"] for row in rows], 0)


def parts(results: Results) -> Dict[str, Callable[[], str]]:
    """Return the method that writes each part, by name."""
    names = [name for name in vars(Results) if not name.startswith("_")]
    helpers = ("rows", "described", "over_seeds")
    return {name: getattr(results, name) for name in names if name not in helpers}


def rewrite(text: str, writers: Dict[str, Callable[[], str]]) -> str:
    """Return a page with each of its parts replaced.

    Raises:
        ValueError: if a part has no writer, or no end.
    """
    marks = re.findall(r"<!-- (begin|end) (\w+) -->", text)
    pairs = list(zip(marks[::2], marks[1::2]))
    if len(marks) % 2 or any(b != ("begin", e[1]) or e[0] != "end" for b, e in pairs):
        raise ValueError(f"a part has no end, or no beginning: {marks}")
    for (_, name), _ in pairs:
        if name not in writers:
            raise ValueError(f"nothing writes {name}: choose from {', '.join(writers)}")
        pattern = rf"(?<=<!-- begin {name} -->\n).*?(?=<!-- end {name} -->)"
        part = f"\n{writers[name]()}\n\n"
        text = re.sub(pattern, lambda _, part=part: part, text, flags=re.DOTALL)
    return text


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    results = Results(root / "results")
    write_bands(root / BANDS, results)
    writers = parts(results)
    for name in PAGES:
        page = root / name
        write_text(page, rewrite(page.read_text(encoding="utf-8"), writers))


if __name__ == "__main__":
    main()
