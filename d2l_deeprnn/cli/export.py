"""``d2l-deeprnn export``: a run's model in a file for other programs."""

from __future__ import annotations

import argparse

from ..export import FORMATS
from ..files import user_path
from .console import DONE, print_line
from .options import add_checkpoint

EXAMPLES = """\
  d2l-deeprnn export runs/novel --format onnx --output novel.onnx
  d2l-deeprnn export runs/novel --format safetensors --output novel.safetensors
  d2l-deeprnn export runs/novel --format html --output novel.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    formats = "\n".join(f"  {name:12} {words}" for name, words in FORMATS.items())
    parser.description = f"""\
Write the model of a run into a file for other programs, with its vocabulary and
how its text was cleaned. What the file computes is compared with the model
before it is written. Formats:

{formats}"""
    add = parser.add_argument
    add("directory", type=user_path, metavar="DIR", help="directory of the run")
    add("--format", choices=FORMATS, required=True, help="format of the file")
    add(
        "--output",
        type=user_path,
        required=True,
        metavar="FILE",
        help="file to write; it must not exist",
    )
    add_checkpoint(parser)
    add(
        "--float32",
        action="store_true",
        help="keep the parameters of an html page in single precision; otherwise they are rounded "
        "to half precision, which makes the page half as large (default: no)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the model of a run into a file; gives the exit status."""
    from ..export import export_run

    export_run(
        arguments.directory,
        arguments.output,
        format=arguments.format,
        checkpoint=arguments.checkpoint,
        float32=arguments.float32,
    )
    print_line(f"Written: {arguments.output}")
    return DONE
