"""Classical classifiers on plain (n, d) feature arrays."""
