"""The HTTP API: budgets, their status, and reports. `api.app.create_app` puts it together."""
