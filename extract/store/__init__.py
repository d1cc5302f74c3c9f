"""The kept features: immutable HDF5 parts below one folder per recipe, read back by image id."""

from extract.store.export import export_features
from extract.store.feature_store import FeatureStore, default_cache
from extract.store.inspection import cache_contents
from extract.store.memory_store import MemoryStore
from extract.store.parts import DamagedPart
from extract.store.pruning import prune_cache
from extract.store.read_only_store import ReadOnlyStore
from extract.store.verification import verify_cache

__all__ = [
    "DamagedPart",
    "FeatureStore",
    "MemoryStore",
    "ReadOnlyStore",
    "cache_contents",
    "default_cache",
    "export_features",
    "prune_cache",
    "verify_cache",
]
