"""Stand-ins for a model: they test the machinery, never what a model can do."""
