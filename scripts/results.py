"""Write the figures in README.md and results/README.md anew from the files in results/.

    python scripts/results.py            # or: make results
    python scripts/results.py DIRECTORY  # of a copy of the project

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by what the
function ``NAME`` below returns. Nothing is trained or measured; called again, it changes nothing.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from d2l_deeprnn.chapter import book
from d2l_deeprnn.evidence.records import Row, Table, column, read_rows, select, spread
from d2l_deeprnn.files import write_text

PAGES = ("README.md", "results/README.md")
OURS = "d2l_deeprnn"
# Runs on tinyshakespeare, those with several seeds from 0 on, and the loss that was the goal.
TINYSHAKESPEARE = {
    "first training": ("tinyshakespeare",),
    "second training": tuple(f"tinyshakespeare_longer{seed}" for seed in ("", "_1", "_2")),
    "third training": tuple(f"tinyshakespeare_decay{seed}" for seed in ("", "_1", "_2")),
}
GOAL = 1.43  # nats


class Results:
    """The parts of the pages, from the files of a directory: a method for each name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def rows(self, name: str) -> List[Row]:
        return read_rows(self.directory / f"{name}.csv")

    def described(self, name: str) -> Dict[str, Any]:
        return dict(json.loads((self.directory / f"{name}.json").read_text(encoding="utf-8")))

    # The chapter's figures over seeds ----------------------------------------------------------

    def seeds(self) -> str:
        rows = []
        for line in book.PRINTED:
            cells = [str(line.epoch), f"{line.perplexity:.3f}"]
            for name in "chapter_seeds", "original_seeds":
                found = column(select(self.rows(name), epoch=line.epoch), "perplexity")
                cells += [f"{f(found):.3f}" for f in (min, statistics.median, max)]
            band = book.BANDS[line.epoch]
            rows.append([*cells, f"{band.low:.3f} to {band.high:.3f}"])
        ours, originals = ("ours: lowest", "median", "highest"), ("original: lowest", "median")
        columns = ["epoch", "book", *ours, *originals, "highest", "expected of one run"]
        return table(columns, rows)

    def seeds_text(self) -> str:
        ours, originals = (
            {e: column(select(self.rows(n), epoch=e), "perplexity") for e in book.BANDS}
            for n in ("chapter_seeds", "original_seeds")
        )
        n = len(ours[500])
        below = [sum(p < line.perplexity for p in ours[line.epoch]) for line in book.PRINTED]
        late = [e for e in book.BANDS if e > 125]
        within = [[sum(p <= 1.06 for p in runs[e]) for e in late] for runs in (ours, originals)]
        predictions = [
            row[f"prediction_{i}"]
            for row in self.rows("chapter_seeds")
            if row["epoch"] in book.PREDICTIONS
            for i in (1, 2)
        ]
        books = sum(text in book.PREDICTIONS[500] for text in predictions)
        return paragraph(
            f"Of our {n} runs, {listed(below)} lie below the book's figure at epochs "
            f"{listed(book.BANDS)}. The book stayed below 1.06 from epoch 250 on; "
            f"at epochs {listed(late)}, {listed(within[0])} of our {n} runs did, and "
            f"{listed(within[1])} of the original's {len(originals[500])}. Of our "
            f"{len(predictions)} predictions, {books} are the book's own sentence."
        )

    def coverage(self) -> str:
        found = self.rows("interval_coverage")
        skewed = [
            row["coverage"] for row in found if re.match("simulated, (gamma|log)", row["what"])
        ]
        left_out = {row["epochs"]: row["coverage"] for row in select(found, what="left out")}
        shares = [f"{100 * share:.1f} % at the epochs {e}" for e, share in left_out.items()]
        return paragraph(
            "The interval assumes that the logarithm of the loss is normally distributed from seed "
            "to seed. It is skewed. In simulations with the skewness that was measured, the "
            f"intervals hold {100 * min(skewed):.1f} to {100 * max(skewed):.1f} % of further "
            "runs. When each training is held against the interval that the others "
            f"give, the interval holds {listed(shares)}. {self._jumps()}"
        )

    def _jumps(self) -> str:
        """How many trainings jump, and what is then judged."""
        found = []
        for trainings in zip(*self._pairs().values()):  # ours, and the original's
            curves = [book.perplexities_of_epochs(losses) for losses in trainings]
            jumps = [
                [e for e in c if e >= book.JUMPS_FROM and book.comparable_perplexity(c, e) < c[e]]
                for c in curves
            ]
            found.append((sum(map(bool, jumps)), len(curves)))
        (ours, of_ours), (originals, of_originals) = found
        return (
            f"After epoch {book.JUMPS_FROM}, {ours} of our {of_ours} trainings and {originals} of "
            f"the original's {of_originals} jump to more than twice their usual loss for a few "
            "epochs. A figure that falls on a jump is judged, and enters the interval, by the "
            f"median of the {book.AROUND_A_JUMP} epochs up to it."
        )

    def plateau(self) -> str:
        return paragraph(
            f"The interval for epoch 125 ends just below {book.UNIGRAM_PERPLEXITY}, the perplexity "
            "of a network that knows how frequent each character is and nothing of their order."
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
                " The table above is of earlier trainings, made with two threads and with each "
                "parameter clipped and updated by itself."
            )
        return paragraph(text)

    def _pairs(self) -> Dict[int, Tuple[List[float], List[float]]]:
        """Seed -> the losses of all minibatches, ours and the original's."""
        found: Dict[int, Dict[str, List[float]]] = {}
        for path in (self.directory / "seeds").glob("*.json"):
            training = json.loads(path.read_text(encoding="utf-8"))
            if training["num_epochs"] == book.CHAPTER.num_epochs:
                found.setdefault(training["seed"], {})[training["library"]] = training["losses"]
        return {
            seed: (found[seed]["ours"], found[seed]["original"])
            for seed in sorted(found)
            if len(found[seed]) == 2
        }

    def kernels(self) -> str:
        found = self.rows("first_minibatches")
        rows = []
        for kernels in dict.fromkeys(column(found, "kernels")):
            by_a = {row["a"]: row for row in select(found, kernels=kernels)}
            cells = [kernels]
            for a in "ours", "arrays", "original":
                row = by_a.get(a, {"first_difference": "", "error_up_to_100": ""})
                cells += [str(row["first_difference"]), f"{row['error_up_to_100']}"]
            rows.append(cells)
        first = "ours beside the original: first", "array by array: first"
        columns = ["kernels", first[0], "error", first[1], "error"]
        return table([*columns, "original beside itself: first", "error"], rows)

    # Time and memory ---------------------------------------------------------------------------

    def whole_process(self) -> str:
        found = self.rows("whole_process")
        rows = []
        for name, measured in by_contestant(found).items():
            memory = statistics.median(column(measured, "peak_memory_mib"))
            seconds = column(measured, "seconds")
            ratio = against(found, name)
            rows.append([name, spread(seconds, 1), f"{memory:.0f} MiB", ratio])
        return table(["program", "seconds", "peak memory", "ours / it"], rows)

    def run_time(self) -> str:
        last = self.rows("chapter/metrics")[-1]
        return paragraph(
            f"The {last['epoch']} epochs of the run in [the picture](chapter/perplexity.svg) took "
            f"{last['seconds']:.0f} seconds on the same machine (`d2l-deeprnn reproduce --seed 0 "
            "--out results/chapter`). The book's authors had a GPU, and needed "
            f"{sum(line.seconds for line in book.PRINTED):.1f} seconds."
        )

    def minibatch(self) -> str:
        found = self.rows("minibatch")
        scale = 1000 / self.described("minibatch")["settings"]["minibatches"]
        rows = [
            [
                name,
                spread([scale * s for s in column(measured, "seconds")], 1),
                against(found, name),
            ]
            for name, measured in by_contestant(found).items()
        ]
        return table(["one minibatch of the chapter", "milliseconds", "ours / it"], rows)

    def busy(self) -> str:
        found = self.rows("busy")
        scale = 1000 / self.described("busy")["settings"]["minibatches"]
        times: Dict[str, Dict[float, List[float]]] = {}
        for row in found:
            of_program = times.setdefault(row["program"], {})
            of_program.setdefault(row["busy_processes"], []).append(scale * row["seconds"])
        beside = list(times[OURS])
        rows = [
            [name, *(spread(of_program[n], 0) if n in of_program else "" for n in beside)]
            for name, of_program in times.items()
        ]
        columns = [f"beside {number:.0f}" for number in beside]
        return table(["milliseconds a minibatch", *columns], rows)

    def widths(self) -> str:
        found, rows = self.rows("widths"), []
        minibatches = self.described("widths")["settings"]["minibatches"]
        for width in dict.fromkeys(column(found, "num_hiddens")):
            scale = 1000 / minibatches[str(width)]
            times = list(by_contestant(select(found, num_hiddens=width)).values())
            ours, *others = [[scale * s for s in column(some, "seconds")] for some in times]
            ratios = [spread([a / b for a, b in zip(ours, its)], 2) for its in others]
            rows.append([str(width), *(spread(its, 0) for its in [ours, *others]), *ratios])
        columns = ["hidden units", "ours, milliseconds", "PyTorch as installed"]
        columns += ["PyTorch, same allocator", "ours / as installed", "ours / same allocator"]
        return table(columns, rows)

    def ranks(self) -> str:
        found, rows = select(self.rows("ranks"), threads=2), []
        ranks = select(self.rows("ranks"), ranks=2)
        for work in dict.fromkeys(map(_work, found)):
            alone, launched, two = (
                column([row for row in some if _work(row) == work], "milliseconds")
                for some in (select(found, mpiexec="False"), select(found, mpiexec="True"), ranks)
            )
            ratio = spread([b / a for a, b in zip(alone, two)], 2)
            rows.append([*map(str, work), spread(alone, 0), spread(two, 0), ratio])
            if launched:
                mpiexec = spread([a / b for a, b in zip(launched, alone)], 3)
        columns = ["hidden units", "rows", "busy processes beside", "one process, 2 threads"]
        columns += ["2 ranks, 1 thread each", "2 ranks / one process"]
        words = f"One process takes {mpiexec} times as long if mpiexec starts it."
        return f"{table(columns, rows)}\n\n{words}"

    def ranks_apart(self) -> str:
        found, rows = self.rows("ranks_apart"), []
        for work in dict.fromkeys(map(_work, found)):
            of_work = [row for row in found if _work(row) == work]
            one, ranks, apart = (
                column(select(of_work, **which), "milliseconds")
                for which in ({"processes": 1}, {"ranks": 2}, {"ranks": 1, "processes": 2})
            )
            ratios = [spread([b / a for a, b in zip(one, its)], 2) for its in (ranks, apart)]
            rows.append(
                [*map(str, work[:2]), *(spread(t, 0) for t in (one, ranks, apart)), *ratios]
            )
        columns = ["hidden units", "rows", "one process, 2 threads", "2 ranks", "2 apart"]
        return table([*columns, "2 ranks / one process", "2 apart / one process"], rows)

    def ranks_sum(self) -> str:
        found = self.rows("ranks_sum")
        rows = [
            [
                f"{millions:g}",
                spread(column(select(found, million_parameters=millions), "milliseconds"), 1),
            ]
            for millions in dict.fromkeys(column(found, "million_parameters"))
        ]
        return table(["million parameters", "milliseconds to sum their gradients"], rows)

    def ranks_links(self) -> str:
        found = select(self.rows("ranks_links"), what="sum")
        links = list(dict.fromkeys(column(found, "gigabits")))
        rows = []
        for millions in dict.fromkeys(column(found, "million_parameters")):
            times = [
                column(select(found, million_parameters=millions, gigabits=link), "milliseconds")
                for link in links
            ]
            rows.append([f"{millions:g}", *(spread(its, 0) for its in times)])
        return table(
            ["million parameters", *(f"{link:g} Gbit/s, milliseconds" for link in links)], rows
        )

    def ranks_model(self) -> str:
        rows = [
            [
                str(row["num_hiddens"]),
                f"{row['gigabits']:g}",
                f"{row['predicted_milliseconds']:.0f}",
                f"{row['measured_milliseconds']:.0f}",
            ]
            for row in select(self.rows("ranks_model"), machines=2)
        ]
        columns = ["hidden units", "Gbit/s", "predicted for two machines, milliseconds", "measured"]
        return table(columns, rows)

    def time_to_perplexity(self) -> str:
        found = self.rows("time_to_perplexity")
        goal = self.described("time_to_perplexity")["settings"]["goal"]
        if any(row["perplexity"] > goal for row in found):
            raise ValueError(f"time_to_perplexity.csv has a run that never reached {goal}")
        rows = []
        for name, measured in by_contestant(found).items():
            seconds, epochs = (column(measured, kind) for kind in ("seconds", "epochs"))
            rows.append([name, spread(seconds, 0), spread(epochs, 0), against(found, name)])
        columns = [f"to training perplexity {goal}", "seconds", "epochs", "ours / it"]
        return table(columns, rows)

    def generation(self) -> str:
        rows = [
            [name, spread([row["characters"] / row["seconds"] for row in measured], 0)]
            for name, measured in by_contestant(self.rows("generation")).items()
        ]
        length = self.described("generation")["settings"]["num_chars"]
        return table([f"writing {length} characters", "characters a second"], rows)

    def exported_generation(self) -> str:
        found = self.rows("exported_generation")
        programs = dict.fromkeys(row["contestant"].rpartition(", ")[0] for row in found)
        widths = dict.fromkeys(row["contestant"].rpartition(", ")[2] for row in found)
        rows = []
        for program in programs:
            times = [select(found, contestant=f"{program}, {width}") for width in widths]
            rates = [[row["characters"] / row["seconds"] for row in some] for some in times]
            rows.append([program, *(spread(some, 0) for some in rates)])
        return table(["characters a second", *widths], rows)

    def copying(self) -> str:
        found = self.rows("copying")
        several = column(select(found, contestant="several threads copy"), "seconds")
        one = column(select(found, contestant="one thread copies"), "seconds")
        return paragraph(
            "After one such copy a minibatch takes "
            f"{spread([a / b for a, b in zip(several, one)], 2)} times as long."
        )

    def own_models(self) -> str:
        found = self.rows("own_models")

        def times(task: str, other: str = "") -> str:
            seconds = [
                column(select(found, contestant=f"{task}, {name}"), "seconds")
                for name in (f"own{other}", "the chapter's")
            ]
            return spread([a / b for a, b in zip(*seconds)], 2)

        rows = [
            [task, times(task), times(task, ", d2l 0.9.1")] for task in ("training", "decoding")
        ]
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
        found = self.rows("large_texts_ranks")
        most = max(column(found, "peak_mib"))
        return paragraph(
            f"Two processes that train together (`mpiexec -n 2`) on {found[0]['characters']:,} "
            f"characters have up to {most} MiB each."
        )

    def large_texts(self) -> str:
        found = self.rows("large_texts")
        rows = []
        for length in dict.fromkeys(column(found, "characters")):
            first, second = (select(found, characters=length, start=s) for s in ("first", "second"))
            times = [column(first, "reading_seconds"), column(second, "reading_seconds")]
            times += [column(second, "first_minibatch_seconds")]
            for name in "minibatches_seconds", "scoring_seconds":
                times.append(column(first, name) + column(second, name))
            most = max(column(first, "peak_mib") + column(second, "peak_mib"))
            rows.append([f"{length:,}", *(spread(some, 2) for some in times), str(most)])
        minibatches = self.described("large_texts")["settings"]["minibatches"]
        columns = ["characters", "seconds to read", "at the second start"]
        columns += ["to the end of the first minibatch there", f"{minibatches} minibatches more"]
        columns += ["scoring of up to 100,000 characters", "most memory, MiB"]
        return table(columns, rows)

    # Other networks and texts ------------------------------------------------------------------

    def scratch(self) -> str:
        chosen = [
            ("from scratch", "scratch_chapter", "scratch"),
            ("from scratch, two biases a gate", "two_biases/scratch_chapter", "scratch_two_biases"),
            ("Gluon's", "scratch_chapter", "gluon"),
        ]
        rows = []
        for shown, name, network in chosen:
            found = select(self.rows(name), network=network)
            seconds = [0.0, *column(found, "seconds")]
            # The median: some epochs were disturbed by other work on the machine.
            an_epoch = statistics.median(b - a for a, b in zip(seconds, seconds[1:]))
            last = found[-1]
            rows.append([shown, str(last["epoch"]), f"{last['perplexity']:.3f}", f"{an_epoch:.2f}"])
        return table(["network", "epochs", "last perplexity", "seconds an epoch (median)"], rows)

    def tinyshakespeare(self) -> str:
        rows = []
        for kind, names in TINYSHAKESPEARE.items():
            found = [self.described(f"{name}/evaluation") for name in names]
            minutes = [seconds / 60 for seconds in column(found, "seconds_to_best_epoch")]
            rows.append(
                [
                    f"this LSTM, {kind}",
                    str(len(names)),
                    spread(column(found, "best_epoch"), 0),
                    spread(minutes, 0),
                    spread(column(found, "nats_1_row"), 4),
                ]
            )
        ngram = f"n-gram of order {found[0]['ngram_order']}, Witten-Bell, same split"
        nanogpt = "nanoGPT's character model on a data-centre GPU, as its README says"
        rows += [
            [ngram, "", "", "", f"{found[0]['ngram_nats']:.4f}"],
            [nanogpt, "", "", "", "1.4697"],
        ]
        columns = ["model", "seeds", "best epoch", "minutes to it", "held-out nats a character"]
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
        columns = ["seed", "held-out nats a character", "minutes, all epochs"]
        return table([*columns, f"first epoch with at most {GOAL}", "minutes to it"], rows)

    def export(self) -> str:
        rows = [[row["library"], f"{row['nats']:.7f}"] for row in self.rows("export")]
        return table(["the same model in", "held-out nats a character"], rows)

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

    # What made them ----------------------------------------------------------------------------

    def commands(self) -> str:
        rows = []
        for path in sorted(self.directory.glob("**/*.json")):
            name = path.relative_to(self.directory).with_suffix("").as_posix()
            described = self.described(name)
            if "command" not in described or name.startswith("seeds/"):
                continue
            machines = [_machine(machine) for machine in as_list(described.get("machine", {}))]
            others = {
                f"{library} {version}"
                for versions in as_list(described.get("versions", {}))
                for library, version in versions.items()
                if library in ("d2l", "torch")
            }
            made_with = ["; ".join(filter(None, machines)), ", ".join(sorted(others))]
            rows.append([f"`{name}`", f"`{described['command']}`", *made_with])
        return table(["file", "command", "machine", "other libraries"], rows)


def _work(row: Row) -> Tuple[int, int, int]:
    return row["num_hiddens"], row["batch_size"], row["busy_processes"]


def _machine(machine: Dict[str, Any]) -> str:
    if not machine:
        return ""
    cores = f"{machine['physical_cores_available']} cores"
    return f"{machine['processor']}, {cores}, threads: {machine['threads']}"


def as_list(found: Any) -> List[Any]:
    """What was made in several places has a list of machines and versions."""
    return found if isinstance(found, list) else [found]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return Table("", columns, rows).markdown()


def paragraph(words: str) -> str:
    return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False)


def listed(items: Any) -> str:
    """``a, b and c``."""
    *first, last = [f"{item:,}" if isinstance(item, int) else str(item) for item in items]
    return f"{', '.join(first)} and {last}" if first else last


def seeds_named(seeds: Any) -> str:
    """``the seeds 0 to 9``, or what they are."""
    found = sorted(seeds)
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"the seeds {found[0]} to {found[-1]}"
    return f"the seed{'s' if len(found) > 1 else ''} {listed(found)}"


def by_contestant(rows: Sequence[Row]) -> Dict[str, List[Row]]:
    return {
        name: select(rows, contestant=name) for name in dict.fromkeys(column(rows, "contestant"))
    }


def against(rows: Sequence[Row], name: str) -> str:
    """The ratio of this package's seconds to a contestant's, round by round."""
    if name == OURS:
        return "1"
    ours, theirs = (column(select(rows, contestant=n), "seconds") for n in (OURS, name))
    return spread([a / b for a, b in zip(ours, theirs)], 2)


def parts(results: Results) -> Dict[str, Callable[[], str]]:
    """Name -> what writes the part."""
    names = [name for name in vars(Results) if not name.startswith("_")]
    return {name: getattr(results, name) for name in names if name not in ("rows", "described")}


def rewrite(text: str, writers: Dict[str, Callable[[], str]]) -> str:
    """A page with each of its parts written anew.

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
        written = f"\n{writers[name]()}\n\n"
        text = re.sub(pattern, lambda _, w=written: w, text, flags=re.DOTALL)
    return text


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    writers = parts(Results(root / "results"))
    for name in PAGES:
        page = root / name
        write_text(page, rewrite(page.read_text(encoding="utf-8"), writers))


if __name__ == "__main__":
    main()
