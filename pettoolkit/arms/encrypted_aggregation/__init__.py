"""`encrypted_aggregation`: as `federated`, but the coordinator adds CKKS ciphertexts that it can't decrypt."""
