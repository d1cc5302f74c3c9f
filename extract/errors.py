"""The one exception the extract room raises for a wrong call."""


class ExtractError(ValueError):
    """A backbone, layer, pooling, weights source or cache that can't be used; its text is one clear line."""
