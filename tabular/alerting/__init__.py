"""From risks to alerts."""
