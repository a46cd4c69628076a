"""An autoencoder and its parts: images to latents and back, and new images from drawn latents."""
