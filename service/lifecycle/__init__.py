"""What happens to loaded versions while they serve."""
