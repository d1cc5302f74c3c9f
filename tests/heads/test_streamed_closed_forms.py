"""Ridge and the nearest centroid from sums over blocks are those of all rows."""

import numpy as np
import pytest

from heads import closed_forms
from heads.blocks import Blocks
from heads.fold_scores import FOLD_SCORERS
from heads.reduction import Fold
from heads.streamed_closed_forms import fit_ridge, score_centroid
from heads.streamed_folds import StreamedFold, share_moments

GRID = [{"alpha": alpha} for alpha in (100.0, 1.0)]


def both(in_slices, k):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 9)) * np.geomspace(10, 0.1, 9) + rng.normal(size=9)
    blocks = Blocks(in_slices(X))
    split = np.arange(160), np.arange(160, 200)
    fold = StreamedFold(blocks, *split)
    share_moments(blocks, [fold])
    return blocks, fold, Fold(X, *split), np.arange(160) % k


@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 2.0])])
@pytest.mark.parametrize("k", [2, 3])
def test_ridge_is_that_of_all_rows(k, weights, in_slices):
    own = None if weights is None else weights[:k]
    _, fold, expected, codes = both(in_slices, k)
    found = fit_ridge(fold, codes, GRID, own)
    known = closed_forms.fit_ridge(expected, codes, GRID, own)
    assert found.coef == pytest.approx(known.coef, abs=1e-12)
    assert found.intercept == pytest.approx(known.intercept, abs=1e-12)


def test_the_nearest_centroid_is_that_of_all_rows(in_slices):
    blocks, fold, expected, codes = both(in_slices, 3)
    [found] = score_centroid(blocks, [fold], [fold.class_means(codes)[0]])
    [known] = FOLD_SCORERS["centroid"].score(expected, codes, [{}], None)
    assert found.scores == pytest.approx(known.scores, abs=1e-9)
    assert (found.labels == known.labels).all()
