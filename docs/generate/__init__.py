"""Makes the parts of the documents that come from the code and from the results of benchmarks."""
