"""A network without norms, whose random features still tell stripes apart, and how it is tuned."""

import pytest

# float32: of random features bfloat16 leaves too little
NETWORK = {"backbone": "squeezenet1_1", "weights": "random", "size": 32, "numerics": "float32"}
TRAINED = {"unfreeze": 2, "rates": (3, 4), "epochs": 2, "batch": 8, "augment": "light"}


@pytest.fixture(scope="session")
def network():
    """Arguments of a small random network."""
    return dict(NETWORK)


@pytest.fixture(scope="session")
def trained():
    """Arguments of a training of seconds."""
    return dict(TRAINED)


@pytest.fixture(scope="module")
def tune_settings(network, trained, tmp_path_factory):
    """Make the settings of a quick job, in the module's one cache."""
    from pipelines import TuneSettings

    cache = tmp_path_factory.mktemp("cache")

    def make(**options):
        quick = {
            "layers": "features.6",
            "pooling": "avg",
            "heads": ("ridge", "knn"),
            "views": "plain",
            "baselines": False,
            "cv": 3,
            "kept_views": 1,
            "cache": cache,
        }
        return TuneSettings(**{**network, **trained, **quick, **options})

    return make
