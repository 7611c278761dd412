"""How many characters per second does an exported model write, and the model itself?

The programs are our ``generate``, the web page's network in headless Chromium, the graph in ONNX
Runtime and the weights in PyTorch, each with two layers of 256 and of 512 hidden units. All of them
take the most likely character each time. Writes ``results/exported_generation.csv``, ``.json`` and
``.svg``.

    python benchmarks/exported_generation.py

Needs the extras ``bench`` and ``browser``, and Chromium with chromedriver. The parameters are
random, which does not change the time.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
from pathlib import Path

from generation import ALPHABET, LAYERS, PREFIX, random_model
from turns import Contest, ratio

NUM_CHARS = 1000
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
# The page's work for each character, without showing it.
SCRIPT = """
const [start, length] = arguments, state = network.beginState();
const largest = (scores) => scores.reduce((best, s, i) => (s > scores[best] ? i : best), 0);
let scores, written = 0;
for (const index of start) scores = network.step(index, state);
for (; written < length; written++) scores = network.step(largest(scores), state);
return written;
"""


def exported(num_hiddens, format, **options):
    """Export the model to a temporary file, and return its path."""
    import d2l_deeprnn as d2l

    path = Path(tempfile.mkdtemp()) / f"model.{format}"
    model, vocab = random_model(d2l, num_hiddens=num_hiddens)
    d2l.export_model(model, vocab, path, format=format, **options)
    return path


def ours(num_hiddens):
    import d2l_deeprnn as d2l
    from d2l_deeprnn.generation.generate import generate

    model, vocab = random_model(d2l, num_hiddens=num_hiddens)
    return lambda round_: [len(generate(model, vocab, [PREFIX], NUM_CHARS)[0]) - len(PREFIX)]


def page(num_hiddens):
    from selenium import webdriver

    path = exported(num_hiddens, "html", float32=True)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for word in ("headless=new", "no-sandbox", "disable-gpu"):
        options.add_argument(f"--{word}")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    atexit.register(driver.quit)
    driver.set_script_timeout(600)
    driver.get(path.as_uri())
    return lambda round_: [driver.execute_script(SCRIPT, indices(), NUM_CHARS)]


def onnx_runtime(num_hiddens):
    import numpy as np

    from d2l_deeprnn.export.onnx import runtime

    path = str(exported(num_hiddens, "onnx"))
    session = runtime().InferenceSession(path, providers=["CPUExecutionProvider"])
    tokens, *states = session.get_inputs()

    def write(round_):
        state = {s.name: np.zeros((1, s.shape[1]), np.float32) for s in states}
        read, written = np.array([indices()]), 0
        while written < NUM_CHARS:
            scores, *new = session.run(None, {tokens.name: read, **state})
            state = dict(zip(state, new))
            read = scores[:, -1:].argmax(axis=-1)
            written += 1
        return [written]

    return write


def pytorch(num_hiddens):
    path = exported(num_hiddens, "safetensors")
    sys.path.append(str(EXAMPLES))
    import torch
    from pytorch_generate import load

    model, _ = load(str(path))

    @torch.no_grad()
    def write(round_):
        read, state, written = torch.tensor([indices()]), None, 0
        while written < NUM_CHARS:
            scores, state = model(read, state)
            read = scores[:, -1:].argmax(dim=-1)
            written += 1
        return [written]

    return write


def indices():
    """Return the token indices of the prefix."""
    import d2l_deeprnn as d2l

    return d2l.Vocab(ALPHABET).encode(PREFIX).tolist()


PROGRAMS = {
    "d2l_deeprnn": ours,
    "the page, in Chromium": page,
    "ONNX Runtime": onnx_runtime,
    "PyTorch": pytorch,
}
CONTESTANTS = {
    f"{program}, {num_hiddens} units": functools.partial(function, num_hiddens)
    for num_hiddens in (256, 512)
    for program, function in PROGRAMS.items()
}

CONTEST = Contest(
    __file__,
    CONTESTANTS,
    columns=["characters"],
    xlabel="characters per second (more is better)",
    title=lambda rows: (
        "With 256 units, the page writes "
        f"{1 / ratio(rows, 'the page, in Chromium, 256 units', 'd2l_deeprnn, 256 units'):.0%} as "
        "fast as this package"
    ),
    shown=lambda row: row["characters"] / row["seconds"],
    panel=lambda row: row["contestant"].rpartition(", ")[2],
    label=lambda row: row["contestant"].rpartition(", ")[0],
    packages=["onnxruntime", "torch", "selenium"],
    settings={"num_chars": NUM_CHARS, "num_layers": LAYERS},
)

if __name__ == "__main__":
    CONTEST.main(__doc__)
