"""`anonymised`: each hospital generalises its records until they are k-anonymous and hands them over."""
