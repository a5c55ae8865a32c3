"""What is computed from runs without the network: scores, thresholds, regions, differences."""
