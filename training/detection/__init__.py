"""Object detection, offline: data with boxes, the network, its losses, its evaluation."""
