"""What `benches/run` is made of: a file for each concern."""
