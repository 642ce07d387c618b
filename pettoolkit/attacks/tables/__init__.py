"""Attacks on released tables: synthetic, anonymised or raw."""
