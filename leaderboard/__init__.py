"""Runs in, tables and plots out; nothing here needs task data or a model."""
