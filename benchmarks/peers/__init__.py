"""Other model servers beside this project's, on the same models; each peer has a virtual environment of its own."""
