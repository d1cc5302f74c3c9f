"""How good a classifier is, and how sure that is: figures from arrays alone."""
