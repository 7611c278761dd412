"""``d2l-deeprnn export`` and ``import``: write models for other programs, and read them again."""

from __future__ import annotations

import argparse
import shlex

from ..export import FORMATS
from .console import DONE, print_line, print_paragraph
from .options import add_checkpoint, add_path

# Format -> what to do with the file.
NEXT = {
    "html": "Open it in a browser, which needs no network.",
    "onnx": "Load it with onnxruntime: onnxruntime.InferenceSession({!r}). docs/export.md has an "
    "example.",
    "safetensors": "Load it with PyTorch (docs/export.md has an example), or turn it into a run: "
    "d2l-deeprnn import {} --out DIR",
}


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    formats = "\n".join(f"  {name:12} {summary}" for name, summary in FORMATS.items())
    parser.description = f"{parser.description}\n\nformats:\n{formats}"
    add = parser.add_argument
    add_path(parser, "directory", "directory of the run")
    add("--format", choices=FORMATS, required=True, help="format of the file")
    add_path(parser, "--output", "file to write; it must not exist", "FILE", required=True)
    add_checkpoint(parser)
    add(
        "--float32",
        action="store_true",
        help="keep the parameters of an html page in single precision, which makes it twice as "
        "large (default: round them to half precision)",
    )


def run_export(arguments: argparse.Namespace) -> int:
    """Write the model of a run to a file for other programs.

    The file also contains the vocabulary and how the text was cleaned. Before it is
    written, its results are compared with the model's.

    examples:
      d2l-deeprnn export runs/novel --format onnx --output novel.onnx
      d2l-deeprnn export runs/novel --format safetensors --output novel.safetensors
      d2l-deeprnn export runs/novel --format html --output novel.html
    """
    from ..export import export_run

    export_run(
        arguments.directory,
        arguments.output,
        format=arguments.format,
        checkpoint=arguments.checkpoint,
        float32=arguments.float32,
    )
    size = arguments.output.stat().st_size
    written = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
    print_line(f"Written: {arguments.output} ({written})")
    print_paragraph(NEXT[arguments.format].format(shlex.quote(str(arguments.output))))
    return DONE


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``import``."""
    add_path(parser, "file", "file to read", "FILE")
    add_path(parser, "--out", "directory of the run; it must be empty or not exist", required=True)


def run_import(arguments: argparse.Namespace) -> int:
    """Turn a model in a safetensors file into a run.

    The file must be from `export`, or from PyTorch with the metadata of such a
    file. The run can be evaluated, generate text and be exported again. If the file
    names its text, the run can be trained further, with a new optimizer state.

    examples:
      d2l-deeprnn import novel.safetensors --out runs/novel-again
      d2l-deeprnn import from_pytorch.safetensors --out runs/from_pytorch
    """
    from ..export.imports import import_run

    import_run(arguments.file, arguments.out)
    print_line(f"Imported. Saved in {arguments.out}")
    print_line(f"Next: d2l-deeprnn generate {shlex.quote(str(arguments.out))} --temperature 0.7")
    return DONE
