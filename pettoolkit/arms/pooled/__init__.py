"""`pooled`: raw records go to the coordinator, which trains one model on all of them (the baseline)."""
