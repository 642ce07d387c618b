"""`local`: nothing leaves a hospital; each trains and keeps its own model."""
