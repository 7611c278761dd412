"""The chapter's training in PyTorch, as a user of PyTorch would write it."""

from __future__ import annotations

import math
import random
from typing import Any, Callable, Sequence

import torch

from d2l_deeprnn.chapter.book import CHAPTER


def train(
    corpus_indices: Sequence[int],
    vocab_size: int,
    num_epochs: int,
    on_epoch: Callable[[int, float], Any] = lambda epoch, perplexity: None,
    *,
    num_hiddens: int = CHAPTER.num_hiddens,
    dropout: float = 0.0,
    adam: bool = False,
) -> None:
    """Train the chapter's network with the chapter's settings.

    Args:
        corpus_indices: token indices of the text.
        vocab_size: number of tokens.
        num_epochs: number of epochs.
        on_epoch: called with the number and the perplexity of each epoch.
        num_hiddens: width.
        dropout: dropout after each layer.
        adam: use Adam instead of SGD.
    """
    text = torch.as_tensor(corpus_indices)
    steps, batch_size = CHAPTER.num_steps, CHAPTER.batch_size
    lstm = torch.nn.LSTM(vocab_size, num_hiddens, CHAPTER.num_layers, dropout=dropout)
    drop = torch.nn.Dropout(dropout)
    dense = torch.nn.Linear(num_hiddens, vocab_size)
    params = [*lstm.parameters(), *dense.parameters()]
    for name, param in [*lstm.named_parameters(), *dense.named_parameters()]:
        if "bias" in name:  # as in Gluon
            torch.nn.init.zeros_(param)
        else:
            torch.nn.init.normal_(param, std=0.01)
    optimizer = torch.optim.Adam(params) if adam else torch.optim.SGD(params, lr=CHAPTER.lr)
    for epoch in range(1, num_epochs + 1):
        offset = random.randrange(steps)
        length = (len(text) - offset) // batch_size
        rows = text[offset : offset + batch_size * length].reshape(batch_size, length)
        state = None
        losses = []
        for i in range(0, (length - 1) // steps * steps, steps):
            X, Y = rows[:, i : i + steps], rows[:, i + 1 : i + 1 + steps]
            if state is not None:
                state = tuple(s.detach() for s in state)
            output, state = lstm(torch.nn.functional.one_hot(X.T, vocab_size).float(), state)
            scores = dense(drop(output).reshape(-1, num_hiddens))
            loss = torch.nn.functional.cross_entropy(scores, Y.T.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, CHAPTER.clipping_theta)
            optimizer.step()
            losses.append(loss.detach())
        on_epoch(epoch, math.exp(torch.stack(losses).mean().item()))
