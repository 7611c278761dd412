"""Which settings matter on the tinyshakespeare text? One setting changed at a time.

Trains a smaller network than that of ``results/tinyshakespeare``, for fewer epochs, so that each
takes minutes. Writes training and held-out loss of each epoch to
``results/tinyshakespeare_settings.csv``, and ``.json``.

    D2L_DEEPRNN_DATA=DIR python benchmarks/tinyshakespeare_settings.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from turns import parser, write

from d2l_deeprnn.training import runs
from d2l_deeprnn.training.settings import TrainSettings, as_dict

BASE = {
    "corpus": ("tinyshakespeare",),
    "keep_case": True,
    "keep_whitespace": True,
    "num_hiddens": 128,
    "batch_size": 64,
    "num_steps": 64,
    "init": "xavier",
    "forget_bias": 1.0,
    "optimizer": "adam",
    "lr": 0.004,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}
CHANGED = {
    "base": {},
    "dropout 0.5": {"dropout": 0.5},
    "256 hidden units": {"num_hiddens": 256},
    "64 hidden units": {"num_hiddens": 64},
    "learning rate 0.001": {"lr": 0.001},
    "constant learning rate": {"schedule": "constant"},
    "the chapter's Normal(0.01), no forget bias": {"init": "normal", "forget_bias": 0.0},
    "the chapter's SGD": {"optimizer": "sgd", "lr": 5.0},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--num-epochs", type=int, default=4)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    both = {"num_epochs": arguments.num_epochs, "seed": arguments.seed}
    rows = []
    for name, changed in CHANGED.items():
        with tempfile.TemporaryDirectory() as directory:
            settings = TrainSettings(**{**BASE, **both, **changed})
            for record in runs.train(settings, Path(directory) / "run").history:
                losses = {"train_loss": record.train_loss, "valid_loss": record.valid_loss}
                losses = {kind: f"{loss:.6f}" for kind, loss in losses.items()}
                seconds = f"{record.seconds:.1f}"
                rows.append({"setting": name, "epoch": record.epoch, **losses, "seconds": seconds})
        print(rows[-1], flush=True)
        # After each training, so that an interruption loses only one.
        write(arguments, rows, base=as_dict(TrainSettings(**BASE)), changed=CHANGED, **both)


if __name__ == "__main__":
    main()
