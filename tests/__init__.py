"""The tests: they mirror service/ and training/; end-to-end tests stand beside them."""
