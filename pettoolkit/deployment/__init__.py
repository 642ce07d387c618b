"""Real hospitals: their folders, their Flower processes, and what the coordinator's side of them does."""
