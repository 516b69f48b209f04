"""The served model: engine, durable jobs, the Videos API on Ray Serve."""
