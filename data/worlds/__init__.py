"""Worlds: sources with known truth, rendered to ordinary video files that go through the ordinary ingest."""
