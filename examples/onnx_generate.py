"""Generate text from an exported model, with only ONNX Runtime and NumPy.

    d2l-deeprnn export runs/novel --format onnx --output novel.onnx
    python examples/onnx_generate.py novel.onnx 'It was' --length 200
    python examples/onnx_generate.py novel.onnx 'It was' --temperature 0.8 --seed 1

Without a temperature, the most likely character is taken each time, and the text
is the same as that of `d2l-deeprnn generate`.
"""

import argparse
import json
import os
import re

import numpy as np

# Otherwise ONNX Runtime reports to Microsoft which models it opens. Set this before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime  # noqa: E402


def generate(path, prefix, length, temperature=0.0, seed=None):
    """Return a prefix continued by ``length`` characters."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    vocab, cleaning = json.loads(facts["vocab"]), json.loads(facts["cleaning"])
    prefix = re.sub(r"\s+", " ", prefix) if cleaning["fold_whitespace"] else prefix
    prefix = prefix.lower() if cleaning["lower"] else prefix
    index = {token: i for i, token in enumerate(vocab)}
    if not prefix or not set(prefix) <= set(index):
        raise SystemExit(f"the prefix must consist of characters of the vocabulary: {vocab}")
    letters = np.array([len(token) == 1 for token in vocab])  # <unk> is never written
    random = np.random.default_rng(seed)

    # All inputs but the first are states (batch_size, hidden units). They start at 0.
    tokens, *states = session.get_inputs()
    state = {s.name: np.zeros((1, s.shape[1]), np.float32) for s in states}
    read = np.array([[index[char] for char in prefix]])
    text = prefix
    for _ in range(length):
        scores, *new = session.run(None, {tokens.name: read, **state})
        state = dict(zip(state, new))
        last = np.where(letters, scores[0, -1].astype(np.float64), -np.inf)
        if temperature:
            p = np.exp((last - last.max()) / temperature)
            choice = random.choice(len(vocab), p=p / p.sum())
        else:
            choice = last.argmax()
        text += vocab[choice]
        read = np.array([[choice]])
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="file written by `d2l-deeprnn export --format onnx`")
    parser.add_argument("prefix", help="text to continue")
    parser.add_argument("--length", type=int, default=200, help="characters to add")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: most likely character")
    parser.add_argument("--seed", type=int, help="seed of the random draws")
    given = parser.parse_args()
    print(generate(given.model, given.prefix, given.length, given.temperature, given.seed))
