"""Train the chapter's network for the first page of the site, and write its page.

    python scripts/site_model.py DIRECTORY            # writes DIRECTORY/model.html
    python scripts/site_model.py DIRECTORY --quick    # trains for two epochs

Adam and Xavier's initialisation reach the book's last perplexity in about a minute; see
notebooks/initialisation.ipynb. Without the book's text on this machine, a sample text is used.
The trained run is kept in the directory, so another call only writes the page.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import d2l_deeprnn as d2l
from d2l_deeprnn.chapter import book
from d2l_deeprnn.text.corpora import BOOK_TEXT, SAMPLE_TEXT
from d2l_deeprnn.text.known_texts import locate_text
from d2l_deeprnn.training.runs import train


def main() -> None:
    directory, quick = Path(sys.argv[1]), "--quick" in sys.argv
    text = BOOK_TEXT if locate_text(BOOK_TEXT) else SAMPLE_TEXT
    faster = {"init": "xavier", "optimizer": "adam", "lr": 0.01, "num_epochs": 2 if quick else 100}
    settings = replace(book.BOOK.train_settings(), corpus=(text,), **faster)
    run, page = directory / (f"{text}-quick" if quick else text), directory / "model.html"
    if not run.exists() and not quick:
        print("Training the model of the site's first page, about a minute, only once ...")
    train(settings, run, resume=run.exists())
    page.unlink(missing_ok=True)
    d2l.export_run(run, page, format="html", checkpoint="last")


if __name__ == "__main__":
    main()
