"""DISCO-TAB-style synthetic tables: tokens, policy, rules, differential privacy, stamps. Adversarial rewards are not built in yet."""
