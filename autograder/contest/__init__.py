"""Adapters as hand-ins: checked, put on a trusted base, measured on a hidden set, ranked by pseudonym."""
