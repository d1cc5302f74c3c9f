"""Features that other programs made: read, compared by the same figures, kept in the store."""
