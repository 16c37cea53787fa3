"""How a threshold of the evaluation is written."""


def alpha_label(alpha: float) -> str:
    """A threshold as it stands in the names of metrics: 0.1 is "0.10", 0.125 is "0.125"."""
    return max(f"{alpha:.2f}", f"{alpha:g}", key=len)
