"""A class for each pixel: heads on the activations of several layers, at the places of pixels."""
