"""The page at `/`, on which people see the models work; its files are plain HTML, CSS and JavaScript modules."""
