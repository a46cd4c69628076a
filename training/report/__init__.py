"""Cards and plots, rendered from records."""
