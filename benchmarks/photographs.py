"""Two photographs of one's own: seconds to an answer with the model loaded once, and to load it.

The backbone has the size of the demonstration's, with random weights. The floor is the bare backbone on two
pictures of its input size, one after the other.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import alternate, read_options, write_rows
from PIL import Image
from training_step import SMALL, TINY, backbone_spec, make_backbone

from spheremap.api import load
from spheremap.api.bundle import write_bundle
from spheremap.model.head import Head

SIZE = (1200, 900)  # px of a photograph
POINTS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(__doc__, arguments)
    work = TINY if options.tiny else dataclasses.replace(SMALL, side=24, records=2)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extractor, pictures = make_backbone(work, folder, options.device)
        head, bundle = Head.initialise(work.dim, ["category"], seed=0), folder / "model.spheremap"
        weights = folder / "backbone.safetensors"
        write_bundle(bundle, head, backbone_spec(work), weights, where=bundle, embed=True)
        photographs = [folder / "a.jpg", folder / "b.jpg"]
        for path in photographs:
            coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            coarse.resize(SIZE, Image.Resampling.BICUBIC).save(path)
        points = rng.uniform(0, SIZE, (POINTS, 2))
        device = str(options.device)
        matcher = load(bundle, device=device)
        timings = alternate(
            {
                "match": lambda: matcher.match(*photographs, points),
                "backbone": lambda: [extractor(pictures[i : i + 1]) for i in range(2)],
                "load": lambda: load(bundle, device=device),
            },
            repeats=options.repeats,
            device=options.device,
        )
    floor = timings["backbone"].median
    size = f"{SIZE[0]}x{SIZE[1]} pixels"
    note = f"{work.model}, {work.side}x{work.side} patches"
    rows = [
        {
            "variant": "match two photographs, model loaded",
            **timings["match"].columns(),
            "share_of_bare": floor / timings["match"].median,
            "note": f"{note}, JPEG of {size}, {POINTS} points",
        },
        {"variant": "bare backbone on both", **timings["backbone"].columns(), "note": note},
        {"variant": "load the model", **timings["load"].columns(), "note": "weights inside the file"},
    ]
    write_rows("photographs", rows, options)


if __name__ == "__main__":
    main()
