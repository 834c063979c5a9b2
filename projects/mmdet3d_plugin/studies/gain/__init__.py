"""What distillation gains: many trainings of one student, compared seed by seed; tools/benchmark/kd_gain.py."""
