"""Generators of synthetic rows behind one protocol, with and without differential privacy; k-anonymity beside them."""
