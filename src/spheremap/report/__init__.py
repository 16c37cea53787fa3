"""The report: results, curves, spheres, matches and an explorer on one self-contained page."""
