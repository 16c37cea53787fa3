"""From a data set on disk to canonical tables."""
