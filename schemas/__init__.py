"""Contracts for others: settings, HTTP bodies, JSON Schema of every message, ClickHouse DDL."""
