"""Score texts with models that only count: the tests of exercise 3, and tinyshakespeare.

PPMd, a compressor, learns from the training part, and goes on learning from the text while it is
scored, as an adapting network does. Its loss is the growth of the compressed file. tinyshakespeare
is also scored with the n-gram model that ``evaluate --baseline ngram`` uses, which does not adapt;
exercise 3 has its own rows for that. Orders are the best on the validation part, which for
tinyshakespeare is the test part. Writes ``results/counting.csv`` and ``.json``.

    python benchmarks/counting.py

Needs the extra ``bench`` and the books in ``$D2L_DEEPRNN_DATA``.
"""

from __future__ import annotations

import math
from typing import Dict, Tuple

from turns import parser, write

from d2l_deeprnn.exercises import more_books
from d2l_deeprnn.exercises.networks import ngram_losses
from d2l_deeprnn.exercises.study import BOOKS, in_one_typography, read, split
from d2l_deeprnn.text.corpora import load_text
from d2l_deeprnn.text.vocab import Vocab

ORDERS = range(2, 11)
SHAKESPEARE = "tinyshakespeare"
Parts = Tuple[str, str, str]  # training, validation, test


def main() -> None:
    arguments = parser(__doc__).parse_args()
    rows = []
    for text, parts in texts().items():
        models = {"PPMd": ppmd}
        if text == SHAKESPEARE:
            models["modified Kneser-Ney"] = kneser_ney
        for model, score in models.items():
            order, nats = score(parts)
            facts = {"text": text, "characters": len(parts[0]), "model": model}
            rows.append({**facts, "order": order, "nats": round(nats, 5)})
            print(rows[-1], flush=True)
    write(arguments, rows, packages=("pyppmd",))


def texts() -> Dict[str, Parts]:
    """Return the parts of each text, by its name."""
    books = list(map(in_one_typography, read(BOOKS.first + BOOKS.second)))
    own, valid, test = split(books[0])
    amounts = more_books._amounts([own, *books[1:]])
    whole = load_text(SHAKESPEARE, lower=False, fold_whitespace=False)
    start = len(whole) * 9 // 10
    return {
        **{amount: (train, valid, test) for amount, train in amounts.items()},
        SHAKESPEARE: (whole[:start], whole[start:], whole[start:]),
    }


def kneser_ney(parts: Parts) -> Tuple[int, float]:
    vocab = Vocab("".join(parts))
    order, _, losses = ngram_losses(*map(vocab.encode, parts), len(vocab))
    return order, float(losses.mean())


def ppmd(parts: Parts) -> Tuple[int, float]:
    train, valid, test = (part.encode() for part in parts)
    order = min(ORDERS, key=lambda order: compressed_size(train + valid, order))
    added = compressed_size(train + test, order) - compressed_size(train, order)
    return order, added * 8 * math.log(2) / len(parts[2])


def compressed_size(text: bytes, order: int) -> int:
    import pyppmd

    encoder = pyppmd.Ppmd8Encoder(order, 2**28, pyppmd.PPMD8_RESTORE_METHOD_RESTART)
    return len(encoder.encode(text)) + len(encoder.flush())


if __name__ == "__main__":
    main()
