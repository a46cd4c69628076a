"""The recipes: one file per kind of model, from the data to a published version."""
