"""Two photographs of one's own: seconds to an answer with the model loaded once, and to load it.

The backbone has the size of the demonstration's, with random weights. The floor is the bare backbone on two
pictures of its input size, one after the other.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import common
import numpy as np
from common import Options, Row
from PIL import Image
from synthetic import backbone_spec, make_backbone

from spheremap.api.bundle import write_bundle
from spheremap.api.matcher import load
from spheremap.model.head import Head

SIZE = (1200, 900)  # px of a photograph
POINTS = 10


def measure(options: Options) -> Iterator[Row]:
    work = common.TINY if options.tiny else replace(common.SMALL, side=24, records=2)
    rng, device = np.random.default_rng(0), str(options.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, bundle = folder / "backbone.safetensors", folder / "model.spheremap"
        extractor, pictures = make_backbone(work, weights, options.device)
        head = Head.initialise(work.dim, ["category"], seed=0)
        write_bundle(bundle, head, backbone_spec(work), weights, where=bundle, embed=True)
        photographs = [folder / "a.jpg", folder / "b.jpg"]
        for path in photographs:
            coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            coarse.resize(SIZE, Image.Resampling.BICUBIC).save(path)
        points = rng.uniform(0, SIZE, (POINTS, 2))
        matcher = load(bundle, device=device)
        functions = {
            "match two photographs, model loaded": lambda: matcher.match(*photographs, points),
            "bare backbone on both": lambda: [extractor(pictures[i : i + 1]) for i in range(2)],
            "load the model": lambda: load(bundle, device=device),
        }
        timings = common.alternate(functions, repeats=options.repeats, device=options.device)
    note = (
        f"{work.model}, {work.side}x{work.side} patches, JPEG of {SIZE[0]}x{SIZE[1]} pixels, {POINTS} points"
    )
    match, bare, _ = timings.values()
    for variant, timing in timings.items():
        row = {"variant": variant, **timing.columns(), "note": note}
        yield row | ({"share_of_bare": bare.median / match.median} if timing is match else {})


main = partial(common.run, "photographs", __doc__, measure)

if __name__ == "__main__":
    main()
