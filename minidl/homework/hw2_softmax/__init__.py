"""Homework 2: solution.py, which is also the stub and the table of tasks; checks.py, what is judged."""
