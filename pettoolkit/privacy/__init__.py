"""Differential privacy with the patient as the unit: clipping, noise, accounting, ledgers and what they guarantee."""
