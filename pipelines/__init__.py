"""The rooms put together: image classifier, evaluation, bundle and command lines."""
