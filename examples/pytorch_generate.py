"""Generate text from an exported model, with PyTorch.

    d2l-deeprnn export runs/novel --format safetensors --output novel.safetensors
    python examples/pytorch_generate.py novel.safetensors 'It was' --length 200

The most likely character is taken each time, and the text is that of `d2l-deeprnn generate`.
"""

import argparse
import json
import re

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class RNNModel(torch.nn.Module):
    """The recurrent layers and the output layer that the file's header describes."""

    def __init__(self, layers, vocab_size):
        super().__init__()
        cell, num_hiddens = layers[0]["cell"], layers[0]["num_hiddens"]
        kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
        options = {"nonlinearity": cell[len("rnn_") :]} if cell.startswith("rnn_") else {}
        kind = kinds.get(cell, torch.nn.RNN)
        self.vocab_size = vocab_size
        self.rnn = kind(vocab_size, num_hiddens, len(layers), batch_first=True, **options)
        self.dense = torch.nn.Linear(num_hiddens, vocab_size)

    def forward(self, tokens, state=None):
        """Return scores (batch_size, num_steps, vocab_size) of tokens (batch_size, num_steps)."""
        one_hot = torch.nn.functional.one_hot(tokens, self.vocab_size).float()
        outputs, state = self.rnn(one_hot, state)
        return self.dense(outputs), state


def load(path):
    """Return the model in a file, and the file's metadata."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    model = RNNModel(json.loads(facts["layers"]), len(json.loads(facts["vocab"])))
    model.load_state_dict(load_file(path), strict=True)
    return model.eval(), facts


def save(model, facts, path):
    """Write a model, for instance after further training, for `d2l-deeprnn import`."""
    save_file(model.state_dict(), path, metadata=facts)


@torch.no_grad()
def generate(path, prefix, length):
    """Return a prefix continued by ``length`` characters."""
    model, facts = load(path)
    vocab, cleaning = json.loads(facts["vocab"]), json.loads(facts["cleaning"])
    prefix = re.sub(r"\s+", " ", prefix) if cleaning["fold_whitespace"] else prefix
    prefix = prefix.lower() if cleaning["lower"] else prefix
    index = {token: i for i, token in enumerate(vocab)}
    if not prefix or not set(prefix) <= set(index):
        raise SystemExit(f"the prefix must consist of characters of the vocabulary: {vocab}")
    letters = torch.tensor([len(token) == 1 for token in vocab])  # <unk> is never written
    read, state, text = torch.tensor([[index[char] for char in prefix]]), None, prefix
    for _ in range(length):
        scores, state = model(read, state)
        choice = scores[0, -1].masked_fill(~letters, -torch.inf).argmax()
        text += vocab[choice]
        read = choice.reshape(1, 1)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="file written by `d2l-deeprnn export --format safetensors`")
    parser.add_argument("prefix", help="text to continue")
    parser.add_argument("--length", type=int, default=200, help="characters to add")
    given = parser.parse_args()
    print(generate(given.model, given.prefix, given.length))
