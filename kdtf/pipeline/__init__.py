"""The main job: teacher, students, 8 bits, files, measures and report of one run directory."""
