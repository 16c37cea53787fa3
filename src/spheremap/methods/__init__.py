"""Semantic matching of keypoints between the two images of a pair, by nearest patch descriptor."""
