"""Frozen backbones: which ViT, where its weights come from, and the tokens taken from it."""
