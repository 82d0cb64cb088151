"""Tables of more rows than memory holds: archives of Parquet files, read in blocks."""
