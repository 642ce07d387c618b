"""What hospitals with the key decrypt, where no round of a model was shared."""
