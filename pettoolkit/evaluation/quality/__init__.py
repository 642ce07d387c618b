"""What a synthetic (or anonymised) table is worth beside the real one, each figure with its noise floor."""
