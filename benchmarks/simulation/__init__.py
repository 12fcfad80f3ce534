"""Simulation: the real schedule and strategies with a clock of numbers and thousands of made-up servers."""
