"""Parameters with which the whole chain runs in seconds: few small pictures, two blocks of a random ViT."""

BACKBONE = {
    "model": "vit_small_patch16_224",
    "weights": {"source": "random", "seed": 0},
    "block": 1,
    "norm": False,
    "facet": "token",
    "image_size": {"train": 64, "eval": 96},
}

TINY = {
    "device": "cpu",
    "datasets.shapes.categories": ["car", "chair"],
    "datasets.shapes.image_size": 64,
    "datasets.shapes.instances": {"train": 2, "val": 2, "test": 2},
    "datasets.shapes.pairs": {"train": 40, "val": 10, "test": 20},
    "backbones": {"tiny": BACKBONE},
    "features.backbone": "tiny",
    "features.views": 2,
    "features.batch": 4,
    "train.steps": 12,
    "train.batch": 8,
    "train.log_every": 2,
    "train.validate_every": 4,
    "train.save_every": 4,
    "methods.adapted.steps": 4,
    "methods.adapted.batch": 2,
    "methods.adapted.angle": 90.0,
    "methods.adapted.log_every": 2,
    "methods.adapted.validate_every": 2,
    "methods.adapted.save_every": 2,
    "evaluate.methods": ["features", "sphere", "fused", "chance"],
    "evaluate.bootstrap": 10,
    "evaluate.sweep.values": [0.0, 0.5],
    "report.pairs": 2,
    "report.maps": 1,
}
