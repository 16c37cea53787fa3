"""Matching on photographs of one's own, with a trained head and its backbone from one portable file."""
