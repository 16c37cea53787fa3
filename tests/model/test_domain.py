"""The domain of a head: distances by hand, limits, and images on either side of them."""

import pytest
import torch

from spheremap.model.domain import Domain, token_deviation


def spread(across: float, beyond: float) -> torch.Tensor:
    """200 summaries about (1, 2, 3) that vary along the first axis, and by less along the third."""
    draw = torch.Generator().manual_seed(0)
    scale = torch.tensor([across, 0.0, beyond])
    return torch.tensor([1.0, 2.0, 3.0]) + scale * torch.randn(200, 3, generator=draw)


def test_summary_is_the_spread_of_unit_tokens_inside() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 2.0], [100.0, 0.0]]]).half()
    inside = torch.tensor([[True, True, False]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 1.0]]).std(dim=0)
    torch.testing.assert_close(token_deviation(tokens, inside)[0], expected, rtol=1e-3, atol=1e-3)


def test_distance_is_what_lies_outside_the_subspace() -> None:
    training = spread(1.0, 0.0)
    domain = Domain.fit(training, spread(1.0, 0.1), components=1)
    along = training.mean(dim=0) + torch.tensor([[5.0, 0.0, 0.0], [5.0, 3.0, 4.0]])
    torch.testing.assert_close(domain.distance(along), torch.tensor([0.0, 5.0]), rtol=1e-5, atol=1e-5)


def test_share_falls_between_the_limits() -> None:
    own = spread(1.0, 0.1)
    domain = Domain.fit(spread(1.0, 0.0), own, components=1)
    median, inner = domain.distance(own).quantile(torch.tensor([0.5, 0.95])).tolist()
    outer = inner + (inner - median) / 2
    assert domain.limits.tolist() == pytest.approx([inner, outer])
    assert float((domain.share(own) == 1).float().mean()) == pytest.approx(0.95, abs=0.01)
    at = domain.mean + torch.tensor([[0.0, d, 0.0] for d in (inner, (inner + outer) / 2, outer, 10.0)])
    torch.testing.assert_close(domain.share(at), torch.tensor([1.0, 0.5, 0.0, 0.0]), rtol=1e-3, atol=1e-3)


def test_before_it_is_fitted_everything_is_in_the_domain() -> None:
    assert Domain(3, 2).share(spread(9.0, 9.0)).min() == 1


def test_few_views_span_few_directions() -> None:
    domain = Domain.fit(spread(1.0, 1.0)[:16], spread(1.0, 1.0), components=3)
    assert (domain.directions.norm(dim=1) > 0).tolist() == [True, True, False]
