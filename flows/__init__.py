"""Prefect flows over the rooms, and the `skyloom` command."""
