"""Simulated attackers: what they get from a release, and from what an insider holds."""
