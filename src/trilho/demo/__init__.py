"""The whole line on real data: train, release, serve, watch, alarm, retrain, promote, on this machine."""
