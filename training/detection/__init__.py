"""Object detection: data with boxes, the network, its losses, its evaluation."""
