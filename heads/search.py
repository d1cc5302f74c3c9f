"""Cross-validated search over heads and their parameters on shared folds."""

import time
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from heads.catalog import HEADS, find_head, make_head
from heads.fold_batches import CrossValidation, solve_together
from heads.fold_passes import MOST_SHARED_ROWS, share_crosses, share_grams, share_moments
from heads.fold_scores import FOLD_SCORERS, known_parameters
from heads.linear import PROBLEMS
from heads.reduction import Fold
from heads.refit import REFITS, fit_pipeline, weights_of
from heads.scores import head_scores


def _best_has(method):
    """For `available_if`: before `fit` what every head has, afterwards what the best one has."""

    def check(search):
        best = getattr(search, "best_estimator_", None)
        return all(
            hasattr(head, method) for head in ([best] if best else map(make_head, search.heads))
        )

    return check


FEW_VALUES = 1 << 18


class HeadSearchCV(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Search all heads and their grids over shared folds; the winner is an ordinary scikit-learn pipeline.

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
        Threads over folds and batches, each with one BLAS thread: their number changes no result; one for up
        to 2^18 values. Many searches (one per array of features) go faster in processes, one thread each.
    random_state : int or None
        Shuffles the folds of an int `cv`; None keeps the rows' order.

    Attributes
    ----------
    cv_results_ : dict of arrays
        As GridSearchCV's. Candidates keep the order of `heads`, within a head that of its grid (parameters by
        name, the last varying fastest); ties in the score go to the earlier one. Besides, `certificate`: the
        bound, by the norm of the gradient, on the relative error of a linear head's coefficients, the largest of
        the folds; 0 for closed forms, NaN for other heads.
    best_index_, best_params_, best_score_, best_estimator_
        `best_params_` is like `{"head": "logistic", "logisticregression__C": 0.1}`.
    classes_ : array of shape (classes,)
    n_features_in_ : int
    oof_scores_ : array of shape (candidates, n, classes), float64
        Out-of-fold `head_scores` of every candidate, averaged over repeats of a row; NaN for rows in no
        validation fold. A class missing from a training fold scores 1 below the row's lowest, or 0 where the
        scores are probabilities.
    """

    def __init__(
        self,
        heads=("logistic", "linear_svm", "rbf_svm", "knn"),
        *,
        cv=5,
        scoring="accuracy",
        refit=True,
        class_weight=None,
        n_jobs=None,
        random_state=0,
    ):
        self.heads = heads
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Score every candidate on every fold, then refit the best.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)
        groups : array of shape (n,) or None
            Rows of one group stay on one side of a fold (with a group-aware `cv`, or an int).

        Raises
        ------
        ValueError
            Unknown head, one class only, no folds.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        _check_classes(y)
        folds = list(self._splitter(y, groups).split(X, y, groups))
        self.n_splits_ = len(folds)
        for train, _ in folds:
            _check_classes(y[train])
        candidates = list_candidates(self.heads, X, min(len(train) for train, _ in folds))
        self.scorer_ = get_scorer("accuracy" if self.scoring is None else self.scoring)
        # the accuracy of known class numbers needs none of the scorer's checks, which cost more than a small fold
        scorer = _accuracy if self.scoring in (None, "accuracy") else self.scorer_
        rows = _make_candidates(candidates, self.class_weight)
        needed = [name for name in REFITS if self.refit and any(row.head == name for row in rows)]
        few = X.size <= FEW_VALUES
        n_jobs = 1 if few else self.n_jobs  # threads would wait for one another
        with threadpool_limits(1):
            whole, *parts = [Fold(X, *part) for part in [(np.arange(len(y)), np.arange(0)), *folds]]
            share_moments(X, [whole, *parts], n_jobs)
            known = {row.head for row in rows} & FOLD_SCORERS.keys()
            if any(FOLD_SCORERS[name].gram for name in known):
                share_grams(X, [whole, *parts] if needed else parts, n_jobs)
            elif any(HEADS[name].keeps_rows for name in known) and len(y) <= MOST_SHARED_ROWS:
                share_crosses(X, parts, n_jobs)
            iterative = {
                name: [row.values for row in rows if row.head == name and row.values is not None]
                for name in PROBLEMS
            }
            spent = solve_together(
                CrossValidation(
                    whole,
                    parts,
                    np.unique(y, return_inverse=True)[1],
                    [
                        weights_of(self.class_weight, y[train])
                        for train in (slice(None), *(train for train, _ in folds))
                    ],
                ),
                {name: values for name, values in iterative.items() if values},
                n_jobs,
                few,
            )
            # the rows of the refit are reduced beside the folds, before the winner is known
            _, *rounds = Parallel(n_jobs=n_jobs, prefer="threads")(
                [delayed(_reduce_all)(whole, needed)]
                + [
                    delayed(_run_fold)(
                        fold, X, y, train, val, rows, self.class_weight, scorer, spent
                    )
                    for fold, (train, val) in zip(parts, folds, strict=True)
                ]
            )
            self.cv_results_ = _tabulate(candidates, rounds)
            self.oof_scores_ = _out_of_fold(rounds, folds, self.classes_, len(y), candidates)
            self._keep_best(X, y, whole, rows)
        return self

    def _splitter(self, y, groups):
        if not isinstance(self.cv, (int, np.integer)):
            return check_cv(self.cv, y, classifier=True)
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        shuffled = self.random_state is not None
        return kind(int(self.cv), shuffle=shuffled, random_state=self.random_state)

    def _keep_best(self, X, y, whole, rows):
        means = self.cv_results_["mean_test_score"]
        self.best_index_ = int(np.argmax(_comparable(means)))
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        self.best_score_ = float(means[self.best_index_])
        if not self.refit:
            return
        started = time.perf_counter()
        best = rows[self.best_index_]
        self.best_estimator_ = fit_pipeline(best.head, best.pipeline(), best.values, X, y, whole)
        self.refit_time_ = time.perf_counter() - started

    def _best(self, X):
        check_is_fitted(self)
        if not self.refit:
            raise AttributeError(
                "this search has no best_estimator_ (refit=False); fit it with refit=True"
            )
        return self.best_estimator_, validate_data(
            self, X, dtype=[np.float64, np.float32], reset=False
        )

    @available_if(_best_has("predict"))
    def predict(self, X):
        """Labels by the best head, (n,)."""
        best, X = self._best(X)
        return best.predict(X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X):
        """Decision values of the best head, (n, classes), or (n,) for two classes."""
        best, X = self._best(X)
        return best.decision_function(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X):
        """Probabilities by the best head, (n, classes), where it has them; else see `fit_calibration`."""
        best, X = self._best(X)
        return best.predict_proba(X)

    def score(self, X, y):
        """The search's scoring of the best head on other rows."""
        best, X = self._best(X)
        return self.scorer_(best, X, y)


def list_candidates(heads, X, n_train):
    """Rows like {"head": "logistic", "logisticregression__C": 0.1} in their fixed order.

    Those that ask for more rows than `n_train`, the smallest training fold, are left out.
    """
    own = hasattr(heads, "items")
    rows = [
        {"head": name, **params}
        for name in heads
        for params in ParameterGrid(heads[name] if own else _own_grid(find_head(name), X))
        if find_head(name)
    ]
    possible = [row for row in rows if _needs_no_more_than(n_train, row)]
    if not possible:
        raise ValueError(
            f"heads {heads!r} give no candidate; name at least one of the catalogue's heads"
        )
    return possible


def _needs_no_more_than(n_train, row):
    """Whether no parameter of a row asks for more than `n_train` training rows."""
    head = find_head(row["head"])
    return all(row.get(head.prefix + name, 1) <= n_train for name in head.bounded_by_rows)


def _own_grid(head, X):
    varying = max(np.count_nonzero(X.max(axis=0) > X.min(axis=0)), 1)
    return {
        head.prefix + key: [
            float(f"{value / varying:.3g}")
            if key in head.per_feature and value != "scale"
            else value
            for value in values
        ]
        for key, values in head.grid.items()
    }


class _Candidate(NamedTuple):
    """A candidate: its head, the parameters it sets, and its parameters as far as the shared work knows them."""

    head: str
    params: dict
    values: dict | None

    def pipeline(self):
        """Its unfitted pipeline: made when it is needed, which takes longer than scoring a small fold."""
        return make_head(self.head, **self.params)


def _make_candidates(rows, class_weight):
    made, classifiers = [], {}
    for row in rows:
        name, head = row["head"], find_head(row["head"])
        weighted = {head.prefix + "class_weight": class_weight} if head.weighted else {}
        params = {key: value for key, value in row.items() if key != "head"}
        defaults = classifiers.setdefault(name, head.make_classifier().get_params())
        changed = {key.removeprefix(head.prefix): value for key, value in params.items()}
        values = known_parameters(name, defaults, changed) if name in FOLD_SCORERS else None
        made.append(_Candidate(name, weighted | params, values))
    return made


def _reduce_all(whole, needed):
    """Do the work on all rows that the refit of any of these heads needs."""
    for name in needed:
        REFITS[name].prepare(whole)


def _run_fold(fold, X, y, train, val, rows, class_weight, scorer, solved_in):
    """For every candidate of one fold: its score, out-of-fold scores, classes and times.

    What heads share is timed with the first that needs it, what candidates share evenly among them.
    """
    classes, codes = np.unique(y[train], return_inverse=True)
    answers = {}
    for name in dict.fromkeys(row.head for row in rows):
        known = [i for i, row in enumerate(rows) if row.head == name and row.values is not None]
        if not known:
            continue
        started = time.perf_counter()
        weights = weights_of(class_weight if find_head(name).weighted else None, y[train])
        found = FOLD_SCORERS[name].score(fold, codes, [rows[i].values for i in known], weights)
        spent = (time.perf_counter() - started + solved_in.get(name, 0)) / len(known)
        for i, (scores, labels, *certificate) in zip(known, found, strict=True):
            answers[i] = (
                _Answers(classes, scores, labels, find_head(name).scores, *certificate),
                spent,
            )
    X_val, y_val = X[val], y[val]
    return [
        _score_candidate(
            *(answers.get(i) or _fit_ordinary(row, X[train], y[train])), X_val, y_val, scorer
        )
        for i, row in enumerate(rows)
    ]


def _fit_ordinary(row, X, y):
    """A candidate that the shared work does not know, fitted by scikit-learn."""
    started = time.perf_counter()
    return row.pipeline().fit(X, y), time.perf_counter() - started


def _accuracy(estimator, X, y):
    return float(np.mean(estimator.predict(X) == y))


def _score_candidate(estimator, fit_time, X, y, scorer):
    started = time.perf_counter()
    return {
        "test_score": scorer(estimator, X, y),
        "fit_time": fit_time,
        "score_time": time.perf_counter() - started,
        "oof": estimator.scores if isinstance(estimator, _Answers) else head_scores(estimator, X),
        "classes": estimator.classes_,
        "certificate": getattr(estimator, "certificate", np.nan),
    }


class _Answers(ClassifierMixin, BaseEstimator):
    """What a candidate answers on one validation fold, as a scorer asks a fitted classifier for it."""

    def __init__(self, classes, scores, labels, kind, certificate=np.nan):
        self.classes_, self.scores, self.labels, self.kind = classes, scores, labels, kind
        self.certificate = certificate

    def predict(self, X):
        return self.classes_[self.labels]

    @available_if(lambda self: self.kind != "probabilities")
    def decision_function(self, X):
        return self.scores if len(self.classes_) > 2 else self.scores[:, 1] - self.scores[:, 0]

    @available_if(lambda self: self.kind != "margins")
    def predict_proba(self, X):
        return softmax(self.scores, axis=1) if self.kind == "logits" else self.scores


def _check_classes(y):
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"training rows have one class only ({classes[0]!r}), expected two or more; add another class"
        )


def _comparable(means):
    """Mean scores for ranking: last bits dropped, failures last."""
    return np.where(np.isnan(means), -np.inf, np.round(means, 12))


def _tabulate(candidates, rounds):
    """`cv_results_` as GridSearchCV lays it out; `rounds` is [fold][candidate]."""
    table = {"params": candidates}
    for key in ("fit_time", "score_time", "test_score"):
        values = np.array([[row[key] for row in fold] for fold in rounds])
        table |= {f"mean_{key}": values.mean(axis=0), f"std_{key}": values.std(axis=0)}
        if key == "test_score":
            table |= {f"split{i}_{key}": fold for i, fold in enumerate(values)}
    table["certificate"] = np.array([[row["certificate"] for row in fold] for fold in rounds]).max(
        axis=0
    )
    table["rank_test_score"] = rankdata(
        -_comparable(table["mean_test_score"]), method="min"
    ).astype(np.int32)
    for i, row in enumerate(candidates):
        for key, value in row.items():
            table.setdefault(f"param_{key}", np.ma.masked_all(len(candidates), dtype=object))[i] = (
                value
            )
    return table


def _out_of_fold(rounds, folds, classes, n, candidates):
    """(candidates, n, classes): each row's mean over the validation folds it was in, NaN where in none."""
    total = np.zeros((len(candidates), n, len(classes)))
    times = np.zeros(n)
    for fold, (_, val) in zip(rounds, folds, strict=True):
        times[val] += 1
        for i, row in enumerate(fold):
            total[i, val] += _in_columns(row, classes, find_head(candidates[i]["head"]).scores)
    with np.errstate(invalid="ignore"):
        return np.where(times[:, None] > 0, total / times[:, None], np.nan)


def _in_columns(row, classes, kind):
    """Scores of a fold in the columns of all classes; those its training part lacked come last."""
    if len(row["classes"]) == len(classes):
        return row["oof"]
    floor = 0.0 if kind == "probabilities" else row["oof"].min(axis=1, keepdims=True) - 1
    full = np.zeros((len(row["oof"]), len(classes))) + floor
    full[:, np.isin(classes, row["classes"])] = row["oof"]
    return full


def fit_head(name, params, features, labels, class_weight=None):
    """Fit a head on all rows, through the shared work of the search: wide features take a tenth of the time so.

    Parameters
    ----------
    name : str
        A key of `HEADS`.
    params : dict
        Parameters that it sets, as in a row of `cv_results_["params"]` without the head.
    features : array of shape (n, d)
    labels : array of shape (n,)
    class_weight : None, "balanced" or dict
        For a head whose classifier takes class weights.

    Returns
    -------
    Pipeline
        Fitted, as scikit-learn itself would have fitted it.
    """
    head = find_head(name)
    # the search would hold it to the rows of its small fold, or has no shortcut for it
    if head.bounded_by_rows or name not in FOLD_SCORERS:
        [candidate] = _make_candidates([{"head": name, **params}], class_weight)
        return candidate.pipeline().fit(features, labels)
    first = np.concatenate([np.flatnonzero(labels == label)[:2] for label in np.unique(labels)])
    grid = {name: {key: [value] for key, value in params.items()}}
    search = HeadSearchCV(grid, cv=[(first, first)], class_weight=class_weight)
    return search.fit(features, labels).best_estimator_
