"""Scores of predicted keypoints: PCK, keypoint average precision, and what goes wrong where."""
