"""Networks to build on: a registry of backbones from several libraries, and a small CNN."""
