"""What hospitals with the key decrypt, where a generator asks for sums of counts."""
