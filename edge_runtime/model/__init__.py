"""What a bundle computes: features to maps, statistics, attention, scores."""
