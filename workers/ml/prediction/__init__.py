"""The body of PREDICT jobs: applies a model file to rows, or to the rows of a Parquet file."""
