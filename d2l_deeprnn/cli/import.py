"""``d2l-deeprnn import``: a run of a model from a file."""

from __future__ import annotations

import argparse

from ..files import user_path
from .console import DONE, print_line

EXAMPLES = """\
  d2l-deeprnn import novel.safetensors --out runs/novel-again
  d2l-deeprnn import from_pytorch.safetensors --out runs/from_pytorch"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.description = """\
Make a run of a model in a safetensors file that `export` wrote, or that PyTorch
has written anew with the metadata of one. The run can be evaluated, write, be
exported again and, if the file names its text, be trained further; the
optimizer then starts anew."""
    add = parser.add_argument
    add("file", type=user_path, metavar="FILE", help="file to read")
    add(
        "--out",
        type=user_path,
        required=True,
        metavar="DIR",
        help="directory of the run; it must not exist, or be empty",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make a run of a model in a file; gives the exit status."""
    from ..export.imports import import_run

    import_run(arguments.file, arguments.out)
    print_line(f"Imported. Checkpoints and history: {arguments.out}")
    return DONE
