"""Names of keypoints as they are shown."""


def readable(name: str) -> str:
    """A name of the tables in words: "wheel_left" is "wheel left", and "7" (as in SPair-71k) "keypoint 7"."""
    return f"keypoint {name}" if name.isdigit() else name.replace("_", " ")
