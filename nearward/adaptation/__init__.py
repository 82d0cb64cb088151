"""A fitted model's patients and site: stored patients added and removed, and the risk brought up to date where the model is used."""
