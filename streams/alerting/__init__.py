"""Alerting: the application that takes alerts to those who asked for them.

`streams.alerts` runs it. What the API and the command line call is in `trying` (a test alert) and
in `dead` (dead letters, and sending them again).
"""
