"""What others may rely on: signatures, content rules, and the one guarded way out of the server."""
