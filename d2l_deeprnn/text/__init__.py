"""From a text to minibatches: the known texts, their vocabulary, their cleaning."""
