"""The spherical head: layers, losses, training."""
