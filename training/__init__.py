"""The loops that fit the autoencoder, the captioner and the transformer; checkpoints, evaluation, registration."""
