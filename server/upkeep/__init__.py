"""What the server does from time to time by itself."""
