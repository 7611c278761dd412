"""The chapter's four exercises, and its remark on initialisation, as studies.

A study is a module with six names. ``NOTEBOOK`` is the notebook with the written answer, ``HOURS``
how long the study took. ``FILES`` has the name of the CSV file for each kind of rows. ``study``
trains networks and returns these rows. ``tables`` and ``figures`` show rows, whether just computed
or read from the files.

A complete study, to start from::

    from ..evidence.figures import points_figure
    from ..evidence.records import column, group_by, spread_of, summary_table
    from ..text.vocab import Vocab
    from .study import Study, library, read, split
    from .networks import TrainSettings, best_epoch, new_network, settings_for, train_to_the_end

    NOTEBOOK = "exercise-5-width.ipynb"
    HOURS = 0.5
    FILES = {"runs": "exercise_5"}  # kind of rows -> file

    def study(*, quick=False, out=None, observer=None):
        # quick: at most two minutes, on a sample text. out: directory of the rows, or None.
        name = library(quick).first[0]
        parts = split(read([name])[0])
        vocab = Vocab("".join(parts))
        train, valid, test = map(vocab.encode, parts)
        common = {**settings_for(quick, len(train)), "lr": 0.01}
        # The settings of all rows. If a file has rows with other settings, it is refused.
        described = {"text": name, "settings": common}
        study = Study("5", FILES, described, quick=quick, out=out, observer=observer)

        def compute(run):
            chosen = TrainSettings(corpus=(name,), **common, **run)
            epochs = train_to_the_end(
                chosen, new_network(chosen, len(vocab)), train, valid, {"test": test},
                on_minibatch=study.on_minibatch,
                file=study.network_file("exercise_5"),  # to resume in the same epoch
            )
            return [best_epoch(epochs)]  # its "seconds" predict the remaining time

        widths, seeds = ([16, 32], [1]) if quick else ([128, 256], [1, 2, 3])
        runs = [{"num_hiddens": width, "seed": seed} for seed in seeds for width in widths]
        # Rows in the files are not computed again, so the same call resumes the study.
        return {"runs": study.collect("runs", runs, compute)}

    def tables(rows):
        widths = group_by(rows["runs"], "num_hiddens")
        title = "Test loss in nats: median (lowest to highest) of the seeds"
        return [summary_table(title, ["units"], widths, {"test": spread_of("test")})]

    def figures(rows):  # file name -> figure
        widths = group_by(rows["runs"], "num_hiddens").items()
        losses = {f"{width} units": column(runs, "test") for width, runs in widths}
        return {"exercise_5": points_figure({"test text": losses}, "nats per character")}

Register the module below. CONTRIBUTING.md lists what else a study needs.
"""

# Name on the command line -> module
EXERCISES = {
    "1": "from_scratch",
    "2": "gru",
    "3": "more_books",
    "4": "authors",
    "initialisation": "initialisation",
}
