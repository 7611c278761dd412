"""What the book has: its train and predict functions, its figures, and how a run compares."""
