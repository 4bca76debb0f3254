"""Memory of a fine-tune: predicted (`estimate`), simulated (`simulate`), measured (`measure`), compared."""
