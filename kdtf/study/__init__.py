"""Studies: many pairs of students under many conditions, and what distillation gained."""
