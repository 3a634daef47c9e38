"""The engine: stages are run here, many side by side, from one stream of batches."""
