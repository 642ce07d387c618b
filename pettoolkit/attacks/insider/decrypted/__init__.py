"""What hospitals with the key decrypt, where rows are summed or a model is trained on encrypted ones."""
