"""The rare-outcome toolbox: remedies of other fields in their tabular form, one a file, each off until it is asked for."""
