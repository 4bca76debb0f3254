"""What the grades of a lesson say: of the class, of its exercises, of answers that are alike."""
