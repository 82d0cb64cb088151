"""In-context models other than ours: TabPFN, TabICL, or the user's own."""
