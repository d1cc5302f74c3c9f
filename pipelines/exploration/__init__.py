"""What can be learned of images without their labels, from arrays of features and thumbnails."""
