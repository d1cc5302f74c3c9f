"""The pass spread over the workers of a Ray cluster, into the same store."""
