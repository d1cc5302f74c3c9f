"""Features of several backbones side by side, for a blend across them."""

from collections.abc import Sequence

import numpy as np

from extract import FeatureExtractor


class JoinedExtractor:
    """Several FeatureExtractors asked in turn; their columns follow one another.

    Attributes
    ----------
    extractors : tuple of FeatureExtractor, one for each backbone.
    """

    def __init__(self, extractors: Sequence[FeatureExtractor]):
        self.extractors = tuple(extractors)

    def transform(self, X) -> np.ndarray:
        """(n, d) float32 features; raises as FeatureExtractor does."""
        return np.hstack([extractor.transform(X) for extractor in self.extractors])

    def transform_readable(self, X):
        """(rows that every extractor could read, their features, {row: ImageError})."""
        found = [extractor.transform_readable(X) for extractor in self.extractors]
        bad = {row: error for _, _, own in found for row, error in own.items()}
        rows = np.array(sorted(set(range(len(X))) - set(bad)), int)
        parts = [features[np.isin(own, rows)] for own, features, _ in found]
        return rows, np.hstack(parts), dict(sorted(bad.items()))


def extractors_of(extractor) -> tuple[FeatureExtractor, ...]:
    """The extractors that a classifier's `extractor_` is made of."""
    return extractor.extractors if isinstance(extractor, JoinedExtractor) else (extractor,)
