"""Raw video to training batches: sources, curation, captions, shards, latents, the loader; worlds with known truth."""
