"""Membership attacks on released models."""
