"""CKKS encryption of sums: small symmetric ciphertexts, keys, flooding, and training on encrypted rows."""
