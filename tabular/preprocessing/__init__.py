"""From a checked table to the columns that models read."""
