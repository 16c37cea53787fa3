"""Parameters: how slices of params.yaml are read."""
