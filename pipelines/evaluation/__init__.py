"""How good a classifier is, and how sure that is: figures from labels, features and probabilities alone."""
