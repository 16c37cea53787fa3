"""Feature caches: patch tokens of a frozen backbone in checksummed HDF5 files."""

from spheremap.features.cache.reader import FeatureCache

__all__ = ["FeatureCache"]
