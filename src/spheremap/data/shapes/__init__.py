"""The embedded data set: procedural objects, rendered together with all its labels."""
