"""What travels over HTTP, and the command line."""
