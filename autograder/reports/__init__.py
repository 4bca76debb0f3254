"""What people get to see of a grading: feedback pages for students, tables for instructors."""
