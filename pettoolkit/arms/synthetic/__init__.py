"""`synthetic`: each hospital fits a generator and sends synthetic rows, on which one model is trained."""
