"""Operations that our training step, and a ViT, cannot do without."""


def step_operations(batch: float, patches: float, foreground: float, dim: float) -> float:
    """Floating-point operations of the matrix products of one step, forward and backward.

    The backward pass of a product takes twice its forward pass, or once where its input needs no gradient.

    Args:
        batch: B views of N = `patches` tokens of width D = `dim`.
        foreground: M foreground tokens in all.
    """
    all_tokens, half = batch * patches, dim / 2
    embed = 2 * all_tokens * dim * half * 2  # features need no gradient
    keys_values = 2 * all_tokens * half * 2 * half * 3
    queries_out = 2 * 2 * foreground * half**2 * 3
    attention = 2 * 2 * foreground * patches * half * 3
    mapper_mlp = 2 * 2 * foreground * half * 4 * half * 3
    ends = 2 * foreground * 3 * (half + dim) * 3
    prototypes = 2 * (2 * 2 * foreground * dim * 4 * dim * 3)  # the block is applied twice
    return embed + keys_values + queries_out + attention + mapper_mlp + ends + prototypes


def vit_operations(blocks: int, width: int, tokens: int) -> float:
    """Floating-point operations of the matrix products of a ViT's blocks on one image, forward.

    Per block: queries, keys, values and output (8 N D²), attention (4 N² D), and an MLP four times as wide
    (16 N D²).
    """
    return float(blocks * (24 * tokens * width**2 + 4 * tokens**2 * width))
