"""What happens to the versions of a model while it is served: they are followed on disk, tried, judged and checked."""
