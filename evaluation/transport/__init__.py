"""Internal–external validation: a model is fitted on some sites, or before a date, and judged on the others."""
