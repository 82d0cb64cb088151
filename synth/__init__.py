"""DISCO-TAB-style synthetic tables: tokens, policy, discriminators and optimizers, rules, differential privacy, stamps."""
