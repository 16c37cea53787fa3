"""The method by domain: the weight of each pair, and what it learns from the caches."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from world import make_world, methods

from spheremap.features.geometry import patches_of_picture
from spheremap.methods.engine.comparison import Comparison
from spheremap.methods.engine.fitting import Fitting
from spheremap.methods.engine.queries import build_queries
from spheremap.methods.fused import FEATURES, SPHERE
from spheremap.model.domain import Domain, token_deviation

(METHOD,) = methods("fused_in_domain").values()


def test_the_lower_share_of_a_pair_scales_the_weight() -> None:
    cache, tables, head = make_world(0)
    inside = [patches_of_picture(box, cache.grid, box[:2] + box[2:]) for box in cache.boxes]
    summaries = token_deviation(torch.from_numpy(cache.data), torch.from_numpy(np.stack(inside)))
    domain = Domain(cache.dim, 2)
    domain.mean = summaries.mean(dim=0)
    distance = domain.distance(summaries)
    domain.limits = distance.quantile(torch.tensor([0.2, 0.9]))
    share = domain.share(summaries)
    assert len(share.unique()) > 3

    queries = build_queries(cache, tables, tables.pairs_of("test"))
    compared = Comparison(cache, [METHOD], head, {METHOD: domain})
    weights = set()
    for block in compared.blocks(queries):
        found = METHOD.compare(block)
        for pair in block.pairs:
            weight = 0.2 * min(float(share[pair.source]), float(share[pair.target]))
            weights.add(weight)
            features, sphere = (block.product(part)[pair.rows] for part in (FEATURES, SPHERE))
            expected = (1 - weight) * features + weight * sphere
            torch.testing.assert_close(found[pair.rows], expected, rtol=1e-5, atol=1e-6)
    assert len(weights) > 3


def test_it_learns_from_training_views_and_validation_images(tmp_path: Path) -> None:
    cache, tables, head = make_world(0)
    splits = ["val" if i % 2 else "test" for i in range(len(tables.images))]
    tables.images["split"] = splits
    fitting = Fitting(
        tables, cache, cache, head, torch.device("cpu"), 1.0, tmp_path / "state", "same", lambda *_: None
    )
    fitted = METHOD.fit(fitting)
    sizes = tables.images.set_index("image_id").loc[cache.image_ids, ["width", "height"]].to_numpy()
    inside = [patches_of_picture(box, cache.grid, size) for box, size in zip(cache.boxes, sizes, strict=True)]
    summaries = token_deviation(torch.from_numpy(cache.data), torch.from_numpy(np.stack(inside)))
    val = (tables.images.set_index("image_id").loc[cache.image_ids, "split"] == "val").to_numpy()
    expected = Domain.fit(summaries, summaries[torch.tensor(val)], METHOD.components)
    for name, tensor in fitted.network.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name])
    assert isinstance(fitted.curve, pd.DataFrame)
    again = METHOD.untrained(cache.dim)
    again.load_state_dict(fitted.network.state_dict())
