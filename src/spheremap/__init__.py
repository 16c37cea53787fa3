"""Spherical maps that teach self-supervised vision features the difference between left and right."""
