"""`augmented`: each hospital trains on its own records and on the others' synthetic rows."""
