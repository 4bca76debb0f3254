"""Parameter-efficient fine-tuning for students: methods, plans, counts, memory and training."""
