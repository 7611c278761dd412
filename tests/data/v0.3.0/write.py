"""Write the runs, exports and expected values of this directory, with version 0.3.0.

    git worktree add ../d2l-0.3.0 41aaccc
    PYTHONPATH=../d2l-0.3.0 OMP_NUM_THREADS=1 python tests/data/v0.3.0/write.py

``files.tar.xz`` holds the runs before they are resumed; ``expected.json`` what 0.3.0 itself makes
of them.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from d2l_deeprnn import __version__
from d2l_deeprnn.chapter import book
from d2l_deeprnn.cli import main
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.checkpoint import load_checkpoint

HERE = Path(__file__).parent
COMMON = ["--corpus=the_tide_tables", "--num-hiddens=4", "--batch-size=4", "--num-steps=8"]
RUNS = {
    "lstm": ["--num-examples=1000", "--optimizer=adam", "--lr=0.02", "--dropout=0.2"],
    "gru": ["--cell=gru", "--num-examples=600", "--num-layers=1", "--valid-fraction=0", "--lr=1"],
    "rnn": ["--cell=rnn", "--num-examples=600", "--sampling=random", "--keep-case"]
    + ["--optimizer=sgd", "--lr=0.5", "--optimizer-option=momentum=0.9", "--schedule=step"],
}
EPOCHS, RESUMED = 3, 5
# Drawn, so that the text depends on all probabilities.
GENERATE = ["--prefix=the t", "--length=60", "--temperature=1", "--seed=0"]


def command(*words):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main([str(word) for word in words]) == 0, words
    return output.getvalue()


def checkpoint_of(run):
    return load_checkpoint(Path(run, "last.zip"))


def sha256_of(checkpoint):
    """One sum over the names and the bytes of all arrays."""
    summed = hashlib.sha256()
    for name, array in sorted(checkpoint.arrays.items()):
        summed.update(name.encode() + array.tobytes())
    return summed.hexdigest()


def stop_in_an_epoch(run):
    """Begin one more epoch, and stop in the middle of it."""
    settings = dataclasses.replace(runs.settings_of(runs.read_config(run)), num_epochs=EPOCHS + 1)
    minibatches = []
    runs.train(
        settings,
        run,
        resume=True,
        on_minibatch=minibatches.append,
        should_stop=lambda: len(minibatches) == 5,
    )


def write(folder):
    expected = {}
    for name, words in RUNS.items():
        command("train", *COMMON, *words, f"--num-epochs={EPOCHS}", "--out", name)
    shutil.copytree("lstm", "stopped")
    stop_in_an_epoch(Path("stopped"))
    # The chapter's own network would be 3 MB.
    book.CHAPTER = dataclasses.replace(book.CHAPTER, num_hiddens=4, num_examples=2000, batch_size=4)
    command("reproduce", "--corpus=the_tide_tables", "--num-epochs=3", "--out", "reproduced")
    for name in ("report.html", "model.html", "perplexity.svg"):
        Path("reproduced", name).unlink()
    for kind in ("safetensors", "onnx"):
        command("export", "lstm", "--format", kind, "--output", f"lstm.{kind}")
    command("export", "gru", "--format", "safetensors", "--output", "gru.safetensors")
    with tarfile.open(HERE / "files.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != ".lock":
                member = archive.gettarinfo(path, str(path.relative_to(folder)))
                member.uid = member.gid = member.mtime = 0
                member.uname = member.gname = ""
                with path.open("rb") as file:
                    archive.addfile(member, file)
    for name in [*RUNS, "stopped"]:
        sums = {"arrays": sha256_of(checkpoint_of(name))}
        for which in ("best", "last"):
            sums[which] = command("generate", name, f"--checkpoint={which}", *GENERATE)
        command("train", "--resume", f"--num-epochs={RESUMED}", "--out", name)
        history = checkpoint_of(name).data["learner"]["history"]
        # Without the seconds.
        expected[name] = {**sums, "history": [record[:4] for record in history]}
    arrays = sha256_of(checkpoint_of("reproduced"))
    command("reproduce", "--resume", f"--num-epochs={RESUMED}", "--out", "reproduced")
    rows = runs.read_history(Path("reproduced"))
    perplexities = [row["perplexity"] for row in rows]
    expected["reproduced"] = {"arrays": arrays, "perplexities": perplexities}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    assert __version__ == "0.3.0", __version__
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write(Path(folder).resolve())
        os.chdir("/")
