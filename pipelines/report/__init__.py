"""What people look at: the results, in files and in words."""
