"""A network trained further on labelled images, from the images or from kept activations."""
