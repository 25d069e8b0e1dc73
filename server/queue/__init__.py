"""What happens to jobs. Functions over a connection; nothing here knows of HTTP."""
