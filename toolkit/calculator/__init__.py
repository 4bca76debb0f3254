"""The VRAM calculator: one picture of a plan against a card, shown in a notebook or on a web page."""
