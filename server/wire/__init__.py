"""What travels over HTTP, and the states that it tells of. All that a worker may import."""
