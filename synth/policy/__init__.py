"""The autoregressive generator: network, training, sampling, and the model that samples the outcome again."""
