"""Networks to build on."""
