"""The autoencoder: its network, the density of its latents, its evaluation."""
