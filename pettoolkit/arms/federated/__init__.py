"""`federated`: hospitals train on their own rows and send model updates, which the coordinator averages."""
