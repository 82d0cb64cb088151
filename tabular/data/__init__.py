"""Tables: their schema, reading and writing, checks, splits by patient."""
