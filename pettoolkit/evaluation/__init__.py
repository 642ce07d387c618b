"""The judge: figures of one cell from (patient, outcome, score) of each hospital's test patients."""
