"""From time-stamped events to a table: reading, features before each prediction time, labels from a rule, units."""
