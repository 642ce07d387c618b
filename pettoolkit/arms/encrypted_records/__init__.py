"""`encrypted_records`: hospitals upload encrypted rows once, and the coordinator trains on ciphertexts."""
