"""The kept features: immutable HDF5 parts below one folder per recipe, read back by image id."""

from extract.store.export import export_features
from extract.store.feature_store import FeatureStore, default_cache
from extract.store.memory_store import MemoryStore
from extract.store.parts import DamagedPart

__all__ = ["DamagedPart", "FeatureStore", "MemoryStore", "default_cache", "export_features"]
