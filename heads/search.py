"""Cross-validated search over heads and their parameters on shared folds."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from threadpoolctl import threadpool_limits

from heads.blocks import Blocks, Rows, check_rows, is_streamed
from heads.candidates import list_settings, make_candidates
from heads.catalog import HEADS, find_head, make_head
from heads.cv_results import comparable, out_of_fold, tabulate
from heads.fold_batches import CrossValidation, solve_together
from heads.fold_passes import (
    FEW_VALUES,
    MOST_SHARED_ROWS,
    share_crosses,
    share_grams,
    share_moments,
)
from heads.fold_scores import FOLD_SCORERS
from heads.linear import PROBLEMS
from heads.reduction import Fold
from heads.refit import REFITS, fit_pipeline, weights_of
from heads.streamed_folds import StreamedFold
from heads.streamed_search import (
    answer_in_blocks,
    is_indexed,
    refit_in_blocks,
    refuse_unstreamed,
)
from heads.validation import Task, Validated, validate_candidates


def _best_has(method: str) -> Callable[[Any], bool]:
    """For `available_if`: before `fit` what every head has, afterwards what the best one has."""

    def check(search: Any) -> bool:
        best = getattr(search, "best_estimator_", None)
        heads = map(make_head, search.heads) if best is None else [best]
        return all(hasattr(head, method) for head in heads)

    return check


class HeadSearchCV(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Search heads and their grids over shared folds; the winner is an ordinary pipeline.

    Parameters
    ----------
    heads : sequence of str, or dict of str to grid
        Names from `HEADS`; a dict gives each its own grid, such as
        `{"logistic": {"logisticregression__C": [0.1, 1]}}`.
    cv : int, splitter or iterable of (train, val) index arrays
        An int makes stratified folds (grouped when `fit` gets groups), shuffled by `random_state`.
    scoring : str, callable or None
        As in GridSearchCV; None is accuracy.
    refit : bool
        Fit the best candidate on all rows as `best_estimator_`.
    class_weight : None, "balanced" or dict
        For the heads whose classifier takes class weights; the others are left as they are.
    n_jobs : int or None
        Threads over folds and batches, each with one BLAS thread: their number changes no result;
        one for up to 2^18 values. Many searches (one per array of features) go faster side by side,
        one thread each.
    random_state : int or None
        Shuffles the folds of an int `cv`; None keeps the rows' order.

    Attributes
    ----------
    cv_results_ : dict of arrays
        As GridSearchCV's. Candidates keep the order of `heads`, within a head that of its grid
        (parameters by name, the last varying fastest); ties in the score go to the earlier one.
        Besides, `certificate`: the bound, by the norm of the gradient, on the relative error of a
        linear head's coefficients, the largest of the folds; 0 for closed forms, NaN for other
        heads.
    best_index_ : int
        The place of the best candidate.
    best_params_ : dict
        Like `{"head": "logistic", "logisticregression__C": 0.1}`.
    best_score_ : float
        Its mean score over the folds.
    best_estimator_ : Pipeline
        It, fitted on all rows; there with `refit` alone.
    classes_ : array of shape (classes,)
    n_features_in_ : int
    oof_scores_ : array of shape (candidates, n, classes), float64
        Out-of-fold `head_scores` of every candidate, averaged over repeats of a row; NaN for rows
        in no validation fold. A class missing from a training fold scores 1 below the row's lowest,
        or 0 where the scores are probabilities.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["a", "b"], 30)
    >>> X = rng.normal(size=(60, 5)) + 3 * (y == "b")[:, None]
    >>> search = HeadSearchCV(["ridge", "centroid"], cv=3).fit(X, y)
    >>> search.best_params_["head"], search.oof_scores_.shape
    ('ridge', (8, 60, 2))
    """

    def __init__(
        self,
        heads: Sequence[str] | Mapping[str, Any] = ("logistic", "linear_svm", "rbf_svm", "knn"),
        *,
        cv: Any = 5,
        scoring: Any = "accuracy",
        refit: bool = True,
        class_weight: Any = None,
        n_jobs: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.heads = heads
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> "HeadSearchCV":
        """Score every candidate on every fold, then refit the best.

        Parameters
        ----------
        X : array of shape (n, d), or rows of that shape
            What is no array and gives `shape`, `dtype`, a length and slices of rows, such as an
            HDF5 dataset, is read in blocks, and so is a `numpy.memmap` of more than 256 MiB: memory
            for the scores, for blocks and for (d, d) matrices is all that is taken, and the heads
            reach the optimum that they reach on an array. A callable `scoring` is given none of
            its features then.
        y : array of shape (n,)
        groups : array of shape (n,) or None
            Rows of one group stay on one side of a fold (with a group-aware `cv`, or an int).

        Returns
        -------
        HeadSearchCV
            Itself.

        Raises
        ------
        ValueError
            Unknown head, one class only, no folds; of rows read in blocks, a head that needs them
            all in memory (`rbf_svm`), or values that are no finite floats.
        """
        streamed = is_streamed(X)
        task = (self._prepare_streamed if streamed else self._prepare)(X, y, groups)
        score = answer_in_blocks if streamed else self._score_folds
        # one thread each for BLAS: with more, the number of jobs would change the last bits
        with threadpool_limits(1):
            self._keep_best(task, score(task))
        return self

    def _prepare(self, X: Any, y: Any, groups: Any) -> Task:
        """Check what came and lay out what is to be done."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        task = self._lay_out(X, y, groups, partial(Fold, X))
        if any(map(is_indexed, task.candidates)):
            raise ValueError(
                "algorithm 'faiss' is for rows that are read in blocks and X is an array; leave it "
                "out: in memory the exact search takes no longer"
            )
        return task

    def _prepare_streamed(self, X: Rows, y: Any, groups: Any) -> Task:
        """The same for rows that are read in blocks."""
        y = column_or_1d(y)
        check_rows(X, len(y))
        self.n_features_in_ = X.shape[1]
        blocks = Blocks(X, self.n_jobs)
        task = self._lay_out(X, y, groups, partial(StreamedFold, blocks))
        refuse_unstreamed(task.candidates)
        return task

    def _lay_out(self, X: Any, y: np.ndarray, groups: Any, make_fold: Callable[..., Fold]) -> Task:
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        _check_classes(y)
        # a splitter of one's own may look at the rows, where they are at hand
        rows = X if isinstance(X, np.ndarray) else np.zeros(len(y))
        splits = list(self._splitter(y, groups).split(rows, y, groups))
        self.n_splits_ = len(splits)
        for train, _ in splits:
            _check_classes(y[train])
        settings = list_settings(self.heads, X, min(len(train) for train, _ in splits))
        self.scorer_ = get_scorer("accuracy" if self.scoring is None else self.scoring)
        return Task(
            X=X,
            y=y,
            splits=splits,
            settings=settings,
            candidates=make_candidates(settings, self.class_weight),
            class_weight=self.class_weight,
            # the scorer's own checks of class numbers cost more than a small fold
            scorer=_accuracy if self.scoring in (None, "accuracy") else self.scorer_,
            n_jobs=1 if math.prod(X.shape) <= FEW_VALUES else self.n_jobs,
            whole=make_fold(np.arange(len(y)), np.arange(0)),
            folds=[make_fold(train, val) for train, val in splits],
        )

    def _score_folds(self, task: Task) -> list[list[Validated]]:
        """What heads share, then every candidate on every fold: [fold][candidate]."""
        refitted = [name for name in REFITS if name in task.heads] if self.refit else []
        _share_products(task, with_whole=bool(refitted))
        seconds = _solve_linear_heads(task)
        # the rows of the refit are reduced beside the folds, before the winner is known
        _, *found = Parallel(n_jobs=task.n_jobs, prefer="threads")(
            [
                delayed(_prepare_refits)(task.whole, refitted),
                *(
                    delayed(validate_candidates)(task, number, seconds)
                    for number in range(len(task.folds))
                ),
            ]
        )
        return found

    def _keep_best(self, task: Task, found: list[list[Validated]]) -> None:
        """Set the results, and fit the best candidate on all rows."""
        self.cv_results_ = tabulate(task, found)
        self.oof_scores_ = out_of_fold(task, found, self.classes_)
        means = self.cv_results_["mean_test_score"]
        self.best_index_ = int(np.argmax(comparable(means)))
        self.best_params_ = task.settings[self.best_index_]
        self.best_score_ = float(means[self.best_index_])
        if not self.refit:
            return
        started = time.perf_counter()
        best = task.candidates[self.best_index_]
        if isinstance(task.whole, StreamedFold):
            self.best_estimator_ = refit_in_blocks(best, task.y, task.whole)
        else:
            self.best_estimator_ = fit_pipeline(
                best.head, best.pipeline(), best.values, task.X, task.y, task.whole
            )
        self.refit_time_ = time.perf_counter() - started

    def _splitter(self, y: np.ndarray, groups: Any) -> Any:
        if not isinstance(self.cv, (int, np.integer)):
            return check_cv(self.cv, y, classifier=True)
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        shuffled = self.random_state is not None
        return kind(int(self.cv), shuffle=shuffled, random_state=self.random_state)

    def _best(self, X: Any) -> tuple[Any, np.ndarray]:
        check_is_fitted(self)
        if not self.refit:
            raise AttributeError(
                "this search has no best_estimator_ (refit=False); fit it with refit=True"
            )
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.best_estimator_, X

    def _answer(self, method: str, X: Any) -> np.ndarray:
        """What the best head says, of rows that are given in slices block by block."""
        if not is_streamed(X):
            best, X = self._best(X)
            return getattr(best, method)(X)
        return np.concatenate(
            [self._answer(method, rows) for rows in Blocks(X).over(lambda _, rows: rows)]
        )

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> np.ndarray:
        """Labels by the best head, (n,)."""
        return self._answer("predict", X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Decision values of the best head, (n, classes), or (n,) for two classes."""
        return self._answer("decision_function", X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities by the best head, (n, classes); see `fit_calibration` where it has none."""
        return self._answer("predict_proba", X)

    def score(self, X: Any, y: Any) -> float:
        """The search's scoring of the best head on other rows, which are an array."""
        if is_streamed(X) and not isinstance(X, np.ndarray):
            raise ValueError("score takes an array, and X gives slices; score what predict answers")
        best, X = self._best(X)
        return self.scorer_(best, X, y)


def _check_classes(y: np.ndarray) -> None:
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"training rows have one class only ({classes.tolist()[0]!r}), expected two or more; "
            "add another class"
        )


def _accuracy(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(estimator.predict(X) == y))


def _share_products(task: Task, with_whole: bool) -> None:
    """Moments and inner products of all folds from common passes over X.

    with_whole : whether a refit needs the products of all rows too.
    """
    share_moments(task.X, [task.whole, *task.folds], task.n_jobs)
    known = [name for name in task.heads if name in FOLD_SCORERS]
    if any(FOLD_SCORERS[name].gram for name in known):
        folds = [task.whole, *task.folds] if with_whole else task.folds
        share_grams(task.X, folds, task.n_jobs)
    # a head that keeps its rows meets the others by products with these alone
    elif any(HEADS[name].keeps_rows for name in known) and len(task.y) <= MOST_SHARED_ROWS:
        share_crosses(task.X, task.folds, task.n_jobs)


def _solve_linear_heads(task: Task) -> dict[str, float]:
    """Solve the heads of `PROBLEMS` for all folds at once -> seconds for each fold, by head."""
    grids = {name: task.known_values(name) for name in PROBLEMS}
    rows = [np.arange(len(task.y)), *(train for train, _ in task.splits)]
    weights = [weights_of(task.class_weight, task.y[own]) for own in rows]
    codes = np.unique(task.y, return_inverse=True)[1]
    return solve_together(
        CrossValidation(task.whole, task.folds, codes, weights),
        {name: values for name, values in grids.items() if values},
        task.n_jobs,
        task.X.size <= FEW_VALUES,
    )


def _prepare_refits(whole: Fold, names: Sequence[str]) -> None:
    """Do the work on all rows that the refit of any of these heads needs."""
    for name in names:
        REFITS[name].prepare(whole)


def fit_head(
    name: str,
    params: Mapping[str, Any],
    features: np.ndarray,
    labels: np.ndarray,
    class_weight: Any = None,
) -> Any:
    """Fit a head on all rows by the shared work of the search.

    Wide features take a tenth of scikit-learn's time so.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    params : mapping
        Parameters that it sets, as `cv_results_["params"]` has them, without the head.
    features : array of shape (n, d)
    labels : array of shape (n,)
    class_weight : None, "balanced" or dict
        For a head whose classifier takes class weights.

    Returns
    -------
    Pipeline
        Fitted, as scikit-learn itself would have fitted it.

    Raises
    ------
    ValueError
        Unknown head.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [0.2], [0.8]]), np.array(["a", "b", "a", "b"])
    >>> fit_head("ridge", {"ridgeclassifier__alpha": 1.0}, X, y).predict(X).tolist()
    ['a', 'b', 'a', 'b']
    """
    # the search would hold it to the rows of its one small fold, or has no shortcut for it
    if find_head(name).bounded_by_rows or name not in FOLD_SCORERS:
        [candidate] = make_candidates([{"head": name, **params}], class_weight)
        return candidate.pipeline().fit(features, labels)
    # a search needs a fold: the smallest that has every class
    first = np.concatenate([np.flatnonzero(labels == label)[:2] for label in np.unique(labels)])
    grid = {name: {key: [value] for key, value in params.items()}}
    search = HeadSearchCV(grid, cv=[(first, first)], class_weight=class_weight)
    return search.fit(features, labels).best_estimator_
