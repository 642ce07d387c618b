"""The record: finished cells in MLflow, its saved view, and the page that shows it."""
