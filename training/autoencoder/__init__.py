"""The autoencoder, offline: its network, the density of its code, its evaluation."""
