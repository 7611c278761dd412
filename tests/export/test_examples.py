"""The examples generate the same as `generate`, without MXNet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from exported import VOCAB, fused
from recurrent import MODES

import d2l_deeprnn as d2l
from d2l_deeprnn.generation.generate import generate

EXAMPLES = Path(__file__).parents[2] / "examples"
PREFIX = "The quick\n fox"  # read as "the quick fox"


def wrote(name, *words, without=("mxnet", "d2l_deeprnn")):
    """Return the output of an example, in a process in which these cannot be imported."""
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({list(without)!r}))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


@pytest.mark.parametrize("mode", MODES)
def test_with_onnx_runtime(mode, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    model, path = fused(mode, 2), tmp_path / "a.onnx"
    d2l.export_model(model, VOCAB, path, format="onnx")
    (expected,) = generate(model, VOCAB, ["the quick fox"], 40)
    assert wrote("onnx_generate.py", path, PREFIX, "--length=40") == f"{expected}\n"
    if mode != "lstm":
        return
    # At this temperature, all characters are about equally likely.
    draws = ["--length=40", "--temperature=1e6", "--seed=3"]
    drawn = [wrote("onnx_generate.py", path, PREFIX, *draws) for _ in range(2)]
    assert drawn[0] == drawn[1] != f"{expected}\n" and len(drawn[0]) == len(expected) + 1


@pytest.mark.parametrize("mode", MODES)
def test_with_pytorch(mode, tmp_path):
    pytest.importorskip("safetensors", reason="needs the extra 'safetensors'")
    pytest.importorskip("torch", reason="needs torch: the extra 'bench'")
    model, path = fused(mode, 2), tmp_path / "a.safetensors"
    d2l.export_model(model, VOCAB, path, format="safetensors")
    (expected,) = generate(model, VOCAB, ["the quick fox"], 40)
    assert wrote("pytorch_generate.py", path, PREFIX, "--length=40") == f"{expected}\n"


def test_an_example_is_short_enough_to_read():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 80
