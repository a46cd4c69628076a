"""Object detection: an image in; labelled boxes above a threshold out."""
