"""Embeddings kept in the store: written once, verified and read like features of our own."""

from os import PathLike

import numpy as np

from extract import FeatureStore, MemoryStore
from extract.store.part_writer import WAITING_BYTES
from pipelines.elsewhere.embeddings import Embeddings


def keep_embeddings(
    embeddings: Embeddings, store: FeatureStore | MemoryStore | str | PathLike
) -> int:
    """Keep the rows that a store lacks, under the embeddings' own recipe.

    `read_features(store, embeddings.recipe, [embeddings.tap], embeddings.ids)` then gives them back
    bit by bit.

    Parameters
    ----------
    embeddings : Embeddings
    store : FeatureStore, MemoryStore, or path
        The folder of a FeatureStore will do.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    ExtractError
        The cache can't be written.

    Examples
    --------
    >>> from extract import MemoryStore, read_features
    >>> one = Embeddings(np.eye(2, dtype=np.float32), ("a", "b"), None, "one.npy", "features")
    >>> store = MemoryStore()
    >>> keep_embeddings(one, store), keep_embeddings(one, store)
    (2, 0)
    >>> read_features(store, one.recipe, [one.tap], one.ids).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(store, (str, PathLike)):
        store = FeatureStore(store)
    recipe, tap, ids = embeddings.recipe, embeddings.tap, embeddings.ids
    lacking = np.flatnonzero(store.missing(recipe, [tap], ids)[:, 0])
    # float16 in float32's place is twice the room
    stored = np.float16 if recipe.numerics == "float16" else np.float32
    width = embeddings.features.shape[1]
    step = max(1, WAITING_BYTES // (4 * width))
    provenance = {"source": embeddings.source, "array": embeddings.array}
    with store.writer(recipe, stored, provenance) as writer:
        for at in range(0, len(lacking), step):
            rows = lacking[at : at + step]
            writer.add(ids[rows], {tap: embeddings.features[rows]})
    return len(lacking)
