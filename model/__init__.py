"""The networks and their maths: shapes, autoencoder, transformer, text, diffusion, sampling, weights."""
