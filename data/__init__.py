"""Which images there are, their labels, groups and splits, and how a file becomes RGB pixels."""
