"""External in-context models: TabPFN, TabICL, or the user's own."""
