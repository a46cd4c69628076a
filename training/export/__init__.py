"""From a trained network to a published version: graphs, calibration, variants, publishing."""
