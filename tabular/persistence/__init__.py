"""Fitted models as files that execute nothing."""
