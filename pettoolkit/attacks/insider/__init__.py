"""Attacks by those who take part: the coordinator, and a hospital with the key."""
