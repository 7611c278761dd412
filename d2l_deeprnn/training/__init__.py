"""Training of any model on any text: settings, steps, checkpoints, and scoring."""
