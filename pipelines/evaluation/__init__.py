"""How good heads and labels are, from arrays of labels, features and probabilities."""
