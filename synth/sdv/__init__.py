"""Adapters between nearward and SDV: metadata, tables, SDV's models in our interface, our synthesizer in SDV's."""
