"""The tests: they mirror service/ and training/; end-to-end tests are at the top level."""
