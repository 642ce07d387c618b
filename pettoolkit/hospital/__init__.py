"""What a hospital owns: its table, splits, store, keys and policy. Knows no technology."""
