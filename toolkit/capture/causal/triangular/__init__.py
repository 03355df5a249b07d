"""Networks over a vector whose weights are triangular: each number is final once it is read."""
