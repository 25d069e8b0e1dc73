"""A second place for files, besides the data folder: S3."""
