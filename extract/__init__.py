"""The frozen networks, the one pass over the images, and the store of what it gives."""
