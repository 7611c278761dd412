"""The book's train and predict functions, its printed values, and the comparison with them."""
