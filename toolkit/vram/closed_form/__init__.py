"""The closed form: a step's operators written down once for all plans of a kind, then computed."""
