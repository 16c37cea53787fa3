"""Names of keypoints and rows as they are shown."""

FURTHER_ROWS = {  # docs/further-rows.md, docs/adapter.md
    "fused_subpatch": "fused, read between patches at the peak of a quadratic",
    "fused_mutual": "fused, with patches held back that match another part of the source better",
    "fused_viewpoint": "fused, with more of the sphere the further apart the two viewpoints seem",
    "adapted": "features, refined by an adapter that learned from what the sphere confirms",
    "adapted_fused": "fused, with refined features",
}


def readable(name: str) -> str:
    """A name of the tables in words: "wheel_left" is "wheel left", and "7" (as in SPair-71k) "keypoint 7"."""
    return f"keypoint {name}" if name.isdigit() else name.replace("_", " ")
