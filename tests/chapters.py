"""The chapter's trainings with a small network."""

from dataclasses import replace

from d2l_deeprnn.chapter import book


def small_trainings():
    """Return ``book.TRAININGS`` with less text and fewer hidden units."""
    small = {"num_hiddens": 8, "num_examples": 3000}
    return {
        name: replace(training, settings=replace(training.settings, **small), first_losses={})
        for name, training in book.TRAININGS.items()
    }
